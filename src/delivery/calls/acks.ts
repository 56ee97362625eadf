import type { MemberId } from '../../coordinator/group.ts';
import type { AckAction, AckCommand, AckEntry, AckOutcome, AckStatus } from '../ports/acks.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { ConsumerGroup } from '../groups/consumer-group.ts';
import type { GroupModel } from '../groups/model.ts';
import { nackLineOf, type NackLine } from './nack-log.ts';

/** What an ack did to a cursor. */
interface Settled {
  readonly status: AckStatus;
  readonly records: number;
  readonly bytes: number;
}

const none = (status: AckStatus): Settled => ({ status, records: 0, bytes: 0 });

/**
 * Applies the entries of an ack in memory, each for itself: one that is refused changes nothing and does not disturb
 * the others. Nothing is durable yet.
 * @returns one outcome an entry, the logs that moved, and what clients say of the records that they refused.
 */
export function applyAcks(
  group: ConsumerGroup,
  command: AckCommand,
  nowMs: number,
): { outcomes: (() => AckOutcome)[]; moved: Feed[]; nacks: NackLine[] } {
  const moved: Feed[] = [];
  const nacks: NackLine[] = [];
  const outcomes = command.entries.map((entry) => {
    const found = group.named(entry) ?? 'NOT_OWNER';
    const log = typeof found === 'string' ? undefined : found;
    const nack = log === undefined ? null : nackLineOf(command, entry, log);
    const settled = typeof found === 'string' ? none(found) : applyEntry(group, command, entry, found, nowMs);
    // One whose record is back already has failed all the same.
    if (nack !== null && (settled.status === 'OK' || settled.status === 'LEASE_EXPIRED')) nacks.push(nack);
    if (log !== undefined && settled.status === 'OK') {
      moved.push(log);
      group.settle(log, settled.records, settled.bytes);
    }
    // The committed offset is read when the answer is made, after the round; and what is durable of it, since acks that came
    // meanwhile have gone ahead in memory.
    return (): AckOutcome => ({
      topic: entry.topic,
      partition: entry.partition,
      lane: entry.lane ?? 0,
      status: settled.status,
      committedOffset: log?.cursor.durableOffset ?? null,
    });
  });
  return { outcomes, moved, nacks };
}

function applyEntry(group: ConsumerGroup, command: AckCommand, entry: AckEntry, log: Feed, nowMs: number): Settled {
  const refusal = refusalOf(group, command.memberId, command.generation, log);
  return refusal === null ? actions[entry.action](log, entry, nowMs) : none(refusal);
}

/**
 * Whether the member may speak for the log in the generation that it names: it must hold the log now, and must have
 * held it since that generation or an earlier one. What it kept through rebalances stays ackable under the old number.
 */
export function refusalOf(
  group: GroupModel,
  memberId: MemberId,
  generation: number,
  log: Feed,
): 'STALE_GENERATION' | 'NOT_OWNER' | null {
  const { topicId, partition } = log.log.address;
  const holder = group.holder({ topicId, partition });
  if (generation > group.generation) return 'STALE_GENERATION';
  if (holder?.memberId !== memberId || log.seat?.member.id !== memberId) {
    return generation < group.decidedGeneration ? 'STALE_GENERATION' : 'NOT_OWNER';
  }
  return generation < holder.sinceGeneration ? 'STALE_GENERATION' : null;
}

const actions: Record<AckAction, (log: Feed, entry: AckEntry, nowMs: number) => Settled> = {
  ACK: ({ cursor }, { upToOffset, runs }) =>
    upToOffset === null ? cursor.ackRuns(runs ?? []) : cursor.ackUpTo(upToOffset),
  NACK: ({ cursor }, entry, nowMs) => cursor.nack(named(entry), entry.delayMs, nowMs),
  RELEASE: ({ cursor }, entry, nowMs) => cursor.release(named(entry), nowMs),
};

function named(entry: AckEntry): { readonly upTo: number } | { readonly runs: readonly number[] } {
  return entry.upToOffset === null ? { runs: entry.runs ?? [] } : { upTo: entry.upToOffset };
}
