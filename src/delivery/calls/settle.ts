import { weights } from '../../account/weights.ts';
import type { Commits } from '../../commit/unit.ts';
import { addRun } from '../../consumption/offsets/runs.ts';
import type { Feed } from '../dispatch/feed.ts';
import type { ConsumerGroup } from '../groups/consumer-group.ts';
import type { GroupContext } from '../groups/context.ts';
import type { AckStatus } from '../ports/acks.ts';
import type { SettleCommand, SettleEntry, SettleOutcome } from '../ports/settle.ts';
import type { Moves } from '../rounds/moves.ts';
import { addAckGrowth, refusalOf, type AckGrowth } from './acks.ts';
import { present } from '../../errors/present.ts';

const inPairs = 'runs are pairs of a first and a last offset';

/**
 * Completes records that the member has in flight, in one transaction with the publishes. The
 * records are MOVING until the outcome of the commit is known. If one entry is rejected nothing
 * moves. @throws Rejection or Fault
 */
export async function settle(
  group: ConsumerGroup,
  command: SettleCommand,
  { moves, kept }: Pick<GroupContext, 'moves' | 'kept'>,
  commits: Commits,
): Promise<SettleOutcome> {
  const { entries, publishes } = command;
  const runs = new Map<Feed, number[]>();
  const statuses = entries.map((entry) => statusOf(group, command, entry, moves, runs));
  if (statuses.some((status) => status !== 'OK')) return { statuses, published: null };
  const { deliveries, ...durable } = growthOf(runs);
  // The moves count themselves at once, and the acks when they are durable.
  kept.reserve({ deliveries }).release();
  const reserved = kept.reserve(durable);
  const settlements = Array.from(runs, ([log, named]) => {
    return { type: 'acks' as const, records: group.move(log, named) };
  });
  try {
    return { statuses, published: await commits.commit({ publishes, settlements }) };
  } finally {
    reserved.release();
  }
}

/** What the cursors may keep more once the settlement is durable, or until then. */
function growthOf(runs: ReadonlyMap<Feed, readonly number[]>): AckGrowth {
  const sum = { holes: 0, attempts: 0, deliveries: 0 };
  for (const [log, named] of runs) {
    addAckGrowth(sum, log, named);
    // Moving records are apart from those that are left of their delivery.
    sum.deliveries += (named.length / 2) * weights.deliveredRun;
  }
  return sum;
}

/** The status of the entry. Adds an entry that may move to the runs of its log. */
function statusOf(
  group: ConsumerGroup,
  { memberId, generation }: SettleCommand,
  entry: SettleEntry,
  moves: Moves,
  runs: Map<Feed, number[]>,
): AckStatus {
  const log = group.named(entry) ?? 'NOT_OWNER';
  if (typeof log === 'string') return log;
  const refusal = refusalOf(group, memberId, generation, log);
  if (refusal !== null) return refusal;
  // A reset, or the end of the subscription or of the broker, waits until nothing moves any more.
  if (!moves.mayBegin(log)) return 'NOT_OWNER';
  const status = log.cursor.mayMove(entry.runs);
  if (status !== 'OK') return status;
  const named = runs.get(log) ?? [];
  for (let at = 0; at < entry.runs.length; at += 2) {
    addRun(named, present(entry.runs[at], inPairs), present(entry.runs[at + 1], inPairs));
  }
  runs.set(log, named);
  return status;
}
