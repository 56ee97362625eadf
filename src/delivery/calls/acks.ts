import { weights } from '../../account/weights.ts';
import type { OffsetRuns } from '../../consumption/offsets/runs.ts';
import type { MemberId } from '../../coordinator/group.ts';
import { limits } from '../../limits/limits.ts';
import type { AckAction, AckCommand, AckEntry, AckOutcome, AckStatus } from '../ports/acks.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { ConsumerGroup } from '../groups/consumer-group.ts';
import type { GroupContext } from '../groups/context.ts';
import type { GroupModel } from '../groups/model.ts';
import type { Kept, KeptBytes } from '../kept/kept.ts';
import { nackLineOf, type NackLine } from './nack-log.ts';

interface Settled {
  readonly status: AckStatus;
  readonly records: number;
  readonly bytes: number;
}

const none = (status: AckStatus): Settled => ({ status, records: 0, bytes: 0 });

/**
 * Applies each entry of an ack in memory. A rejected entry does not affect the others. The next
 * round makes it durable. @returns an outcome for each entry, whether the round writes something of
 * each, and lines for the broker's log about NACKs.
 * @throws Rejection BROKER_FULL, BROKER_BUSY, NOT_OWNER: nothing has changed
 */
export function applyAcks(
  group: ConsumerGroup,
  command: AckCommand,
  { clock, kept, rounds }: Pick<GroupContext, 'clock' | 'kept' | 'rounds'>,
): { outcomes: (() => AckOutcome)[]; isWritten: boolean; nacks: NackLine[] } {
  refuseIfFull(group, command, kept);
  const nowMs = clock.nowMs();
  const moved: Feed[] = [];
  const nacks: NackLine[] = [];
  const outcomes = command.entries.map((entry) => {
    const found = group.named(entry) ?? 'NOT_OWNER';
    const log = typeof found === 'string' ? undefined : found;
    const nack = log === undefined ? null : nackLineOf(command, entry, log);
    const settled = typeof found === 'string' ? none(found) : applyEntry(group, command, entry, found, nowMs);
    // The handler has failed, even if the record had come back already (LEASE_EXPIRED).
    if (nack !== null && (settled.status === 'OK' || settled.status === 'LEASE_EXPIRED')) nacks.push(nack);
    // A NACK or RELEASE of records that have come back refuses them too.
    log?.recount();
    if (log !== undefined && settled.status === 'OK') {
      moved.push(log);
      group.settle(log, settled.records, settled.bytes);
    }
    // Read when the answer is made, after the round. It is the durable offset, because later acks
    // may have moved the committed offset in memory meanwhile.
    return (): AckOutcome => ({
      topic: entry.topic,
      partition: entry.partition,
      lane: entry.lane ?? 0,
      status: settled.status,
      committedOffset: log?.cursor.durableOffset ?? null,
    });
  });
  for (const log of moved) rounds.mark(log);
  const isWritten = moved.length === outcomes.length && command.entries.every(({ action }) => action !== 'RELEASE');
  return { outcomes, isWritten, nacks };
}

/**
 * Compares what the ack may add at most with the room, and looks at the cursors only if that is not
 * enough. A cumulative ack adds nothing.
 */
function refuseIfFull(group: ConsumerGroup, command: AckCommand, kept: Kept): void {
  let holesMax = 0;
  let attemptsMax = 0;
  let deliveriesMax = 0;
  for (const entry of command.entries) {
    const { action, runs } = entry;
    if (action === 'ACK' && runs !== null) {
      const runsMax = runs.length / 2;
      holesMax += runsMax;
      // An ack within a run of attempts, or of records in flight, splits it.
      attemptsMax += runsMax;
      deliveriesMax += runsMax * weights.deliveredRun;
    } else if (action !== 'ACK') deliveriesMax += refusalsMax(entry, limits.cursorRangesMax) * refusalBytes;
    if (action === 'NACK') attemptsMax += limits.cursorAttemptRunsMax;
  }
  const fits =
    holesMax * weights.hole <= kept.holes.room &&
    attemptsMax * weights.attemptRun <= kept.attempts.room &&
    deliveriesMax <= kept.deliveries.room;
  // What is applied counts itself at once, in the same step.
  if (!fits) kept.reserve(growthOf(group, command)).release();
}

/** A refused run stays known, and delivery pauses for it. */
const refusalBytes = 2 * weights.refusedRun;

/** What the cursors may keep more after the ack. */
function growthOf(group: ConsumerGroup, { memberId, generation, entries }: AckCommand): KeptBytes {
  const sum = { holes: 0, attempts: 0, deliveries: 0 };
  for (const entry of entries) {
    const log = group.named(entry) ?? 'NOT_OWNER';
    if (typeof log === 'string' || refusalOf(group, memberId, generation, log) !== null) continue;
    if (entry.action !== 'ACK') sum.deliveries += refusalsMax(entry, log.cursor.holes) * refusalBytes;
    else if (entry.runs !== null) addAckGrowth(sum, log, entry.runs);
    if (entry.action === 'NACK') sum.attempts += log.cursor.attemptGrowth(named(entry)) * weights.attemptRun;
  }
  return sum;
}

/** Adds what the cursor of the log may keep more after an ack of the runs. */
export function addAckGrowth(sum: AckGrowth, { cursor }: Feed, runs: OffsetRuns): void {
  const growth = cursor.ackGrowth(runs);
  sum.holes += growth.holes * weights.hole;
  sum.attempts += growth.attempts * weights.attemptRun;
  sum.deliveries += growth.pieces * weights.deliveredRun;
}

/** How many runs a NACK or RELEASE may refuse. It leaves out what is acked, the holes. */
function refusalsMax({ upToOffset, runs }: AckEntry, holes: number): number {
  return (upToOffset === null ? (runs?.length ?? 0) / 2 : 1) + holes;
}

/** In bytes. */
export interface AckGrowth {
  holes: number;
  attempts: number;
  deliveries: number;
}

function applyEntry(group: ConsumerGroup, command: AckCommand, entry: AckEntry, log: Feed, nowMs: number): Settled {
  const refusal = refusalOf(group, command.memberId, command.generation, log);
  return refusal === null ? actions[entry.action](log, entry, nowMs) : none(refusal);
}

/**
 * Why the member may not ack records of the log in the generation that it names; null if it may. It
 * must hold the log now, and must have held it since that generation or an earlier one. After a
 * rebalance an older generation therefore still counts for partitions that the member has kept.
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
