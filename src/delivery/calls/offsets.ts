import { refusalOf } from './acks.ts';
import type {
  CommitOffsetsCommand,
  CommittedOffset,
  FetchedOffset,
  NamedLog,
  OffsetCommit,
  OffsetStatus,
  ResetOffset,
  ResetOffsetsCommand,
} from '../ports/offsets.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { ConsumerGroup } from '../groups/consumer-group.ts';
import type { GroupContext } from '../groups/context.ts';
import type { Groups } from '../groups/groups.ts';
import type { OffsetRetention } from '../groups/offset-retention.ts';
import { refuseUnlessEmpty } from '../groups/refusals.ts';
import { noteBytes } from '../kept/sizes.ts';
import { resetTargets, selectedLogs } from './reset-target.ts';
import { present } from '../../errors/present.ts';
import { subscriptionNotFound } from '../../errors/rejections/groups.ts';

/** The calls on the offsets of a group: CommitOffsets, FetchOffsets and ResetOffsets. */
export class Offsets {
  readonly #groups: Groups;
  readonly #retention: OffsetRetention;
  readonly #context: GroupContext;

  constructor(groups: Groups, retention: OffsetRetention, context: GroupContext) {
    this.#groups = groups;
    this.#retention = retention;
    this.#context = context;
  }

  /**
   * Resolves to the results of the entries, in their order, once they are durable.
   * @throws Rejection GROUP_NOT_FOUND, MEMBER_FENCED, GROUP_NOT_EMPTY, BROKER_FULL
   */
  async commit(command: CommitOffsetsCommand): Promise<CommittedOffset[]> {
    const group = this.#groups.inMemory.get(command.group);
    const { member } = command;
    if (member === null) {
      refuseUnlessEmpty(group);
      this.#retention.touch(group);
    } else {
      group.atWork(member.memberId);
    }
    const { offsets } = command;
    const found = offsets.map((entry) => group.named(entry) ?? 'UNKNOWN_PARTITION');
    const growth = noteGrowth(offsets, found);
    const reserved = growth === 0 ? null : this.#context.kept.reserve({ notes: growth });
    let unwritten = false;
    const statuses = offsets.map((entry, at) => {
      const log = present(found[at], 'each entry was looked up');
      const outcome = typeof log === 'string' ? log : this.#commit(group, member, entry, log);
      if (outcome !== 'CHANGED') unwritten = true;
      const status = outcome === 'CHANGED' || outcome === 'UNCHANGED' ? 'OK' : outcome;
      if (status === 'OK') this.#context.counts.commits++;
      return status;
    });
    // Each log counts its note by itself.
    reserved?.release();
    // Entries that changed nothing wait too, as acks do: only the owner may reject them.
    const { rounds } = this.#context;
    await (unwritten ? rounds.proven() : rounds.durable());
    return offsets.map(({ topic, partition, lane }, at) => {
      const log = present(found[at], 'each entry was looked up');
      const committedOffset = typeof log === 'string' ? null : log.cursor.durableOffset;
      return {
        topic,
        partition,
        lane: lane ?? 0,
        status: present(statuses[at], 'each entry has a status'),
        committedOffset,
      };
    });
  }

  /** Applies the commit in memory. Nothing is durable yet. */
  #commit(
    group: ConsumerGroup,
    member: CommitOffsetsCommand['member'],
    { offset, metadata }: OffsetCommit,
    log: Feed,
  ): 'CHANGED' | 'UNCHANGED' | Exclude<OffsetStatus, 'OK'> {
    const refusal = member === null ? null : refusalOf(group, member.memberId, member.generation, log);
    if (refusal !== null) return refusal;
    const { cursor } = log;
    if (offset < cursor.committedOffset) return 'NOT_ADVANCED';
    const advances = offset > cursor.committedOffset;
    if (advances) {
      if (offset > log.log.endOffset) return 'UNKNOWN_OFFSET';
      const settled = member === null ? cursor.advance(offset) : cursor.ackUpTo(offset - 1);
      if (settled.status !== 'OK') return 'UNKNOWN_OFFSET';
      group.settle(log, settled.records, settled.bytes);
    }
    const notes = metadata !== cursor.metadata;
    if (notes) {
      cursor.annotate(metadata);
      log.recountNote();
    }
    if (!advances && !notes) return 'UNCHANGED';
    this.#context.rounds.mark(log);
    return 'CHANGED';
  }

  /**
   * Reads the committed offsets of the group, one by one. What it reads is durable once `durable`
   * resolves. @throws Rejection GROUP_NOT_FOUND
   */
  reader(groupName: string): (name: NamedLog) => FetchedOffset {
    const group = this.#groups.inMemory.get(groupName);
    return (name) => fetchedNamed(name, group.named(name) ?? 'UNKNOWN_PARTITION');
  }

  durable(): Promise<void> {
    return this.#context.rounds.durable();
  }

  /**
   * Resets all of the cursors or none. A dry run only returns where they would begin.
   * @throws Rejection GROUP_NOT_FOUND, GROUP_NOT_EMPTY, SUBSCRIPTION_NOT_FOUND,
   * PARTITION_OUT_OF_RANGE, OFFSET_OUT_OF_RANGE
   */
  reset(command: ResetOffsetsCommand): Promise<ResetOffset[]> {
    return this.#groups.within(command.group, async (group) => {
      if (!command.force) refuseUnlessEmpty(group);
      const logs = selectedLogs(group, command);
      if (command.dryRun) return described(logs, await this.#targets(command.to, logs));
      const topicIds = new Set(logs.map(({ log }) => log.address.topicId));
      const { moves } = this.#context;
      return group.withheld([...topicIds], () => {
        return moves.whileStill(logs, () => {
          refuseIfEnded(group.name, logs);
          return this.#begin(group, logs, command.to);
        });
      });
    });
  }

  /** The new offsets, counted from a state that is durable, after acks whose round is under way. */
  async #targets(to: ResetOffsetsCommand['to'], logs: readonly Feed[]): Promise<number[]> {
    await this.#context.rounds.durable();
    return resetTargets(to, logs);
  }

  /**
   * Resets logs without a holder and without MOVING records. The new incarnation is durable before
   * memory changes, so that nothing of the old one can come back.
   */
  async #begin(group: ConsumerGroup, logs: readonly Feed[], to: ResetOffsetsCommand['to']): Promise<ResetOffset[]> {
    const offsets = await this.#targets(to, logs);
    const resets = logs.map((log, at) => {
      const { key, cursor } = log;
      return { log, key, offset: present(offsets[at], targeted), resets: cursor.resets + 1 };
    });
    // The log may have lost its first records meanwhile, so the stored offsets count.
    const stored = await this.#context.writer.settle((store) => store.resetCursors(resets));
    const results = described(logs, stored);
    for (const [at, { log, resets: incarnation }] of resets.entries()) {
      log.cursor.reset(present(stored[at], targeted), incarnation);
      log.wasReset();
    }
    this.#context.onCursorsWritten(new Set(logs.map(({ log }) => log.address.topicId)));
    this.#retention.touch(group);
    return results;
  }
}

/** A subscription may end while a reset waits for its members. */
function refuseIfEnded(group: string, logs: readonly Feed[]): void {
  const ended = logs.find(({ isClosed }) => isClosed);
  if (ended !== undefined) throw subscriptionNotFound({ group, topic: ended.topic });
}

/** By how many bytes the notes may grow. A shorter note makes no room for others of its call. */
function noteGrowth(offsets: readonly OffsetCommit[], found: readonly (Feed | string)[]): number {
  let bytes = 0;
  for (const [at, { metadata }] of offsets.entries()) {
    const log = found[at];
    if (typeof log === 'object' && metadata !== '') bytes += Math.max(0, noteBytes(metadata) - log.noteBytes);
  }
  return bytes;
}

const targeted = 'each log of a reset has a target';

function fetchedNamed(
  { topic, partition, lane }: NamedLog,
  log: Feed | 'UNKNOWN_PARTITION' | 'LANE_REQUIRED',
): FetchedOffset {
  return typeof log === 'string' ? { topic, partition, lane: lane ?? 0, status: log, committed: null } : fetchedOf(log);
}

function fetchedOf({ topic, key: { partition, lane }, cursor, log }: Feed): FetchedOffset {
  const { committedOffset, metadata } = cursor;
  const lag = cursor.lag(log.endOffset);
  const committed = { offset: committedOffset, metadata, highWatermark: log.endOffset, lag };
  return { topic, partition, lane, status: 'OK', committed };
}

function described(logs: readonly Feed[], offsets: readonly number[]): ResetOffset[] {
  return logs.map(({ key, cursor, log, topic }, at) => {
    const offset = present(offsets[at], targeted);
    const lag = Math.max(0, log.endOffset - offset);
    return { topic, partition: key.partition, lane: key.lane, previousOffset: cursor.durableOffset, offset, lag };
  });
}
