import type { IdempotencyHit } from '../log/known-keys.ts';
import type { Topic } from '../log/topic.ts';
import type { CommitStore } from './store.ts';
import type { CommitUnit } from './unit.ts';

/** The idempotency keys that the database has and memory does not. */
export type FoundKeys = ReadonlyMap<Topic, ReadonlyMap<string, IdempotencyHit>>;
export const noKeys: FoundKeys = new Map();

/** Whether memory has all that the plan of a transaction needs. Most publishes have no keys. */
export function isPrepared(units: readonly CommitUnit[]): boolean {
  for (const { publishes } of units) {
    for (const { topic, command } of publishes) if (!topic.isKnown || command.idempotencyKeys !== null) return false;
  }
  return true;
}

/**
 * Reads what the plan of a transaction needs: the ends of the logs, and the keys.
 * @throws Fault
 */
export async function prepare(
  units: readonly CommitUnit[],
  store: Pick<CommitStore, 'findKeys'>,
  nowMs: number,
): Promise<FoundKeys> {
  const unknown = [...topicsOf(units)].filter(({ isKnown }) => !isKnown);
  // At the load, topics for which one waits are read together.
  await Promise.all(unknown.map((topic) => topic.refresh()));
  const found = Array.from(unknownKeys(units, nowMs), async ([topic, keys]) => {
    return [topic, await store.findKeys(topic.row.id, topic.row.idempotencyWindowMs, [...keys])] as const;
  });
  return new Map(await Promise.all(found));
}

/** The keys that memory does not have, of topics whose memory is not complete. */
function unknownKeys(units: readonly CommitUnit[], nowMs: number): Map<Topic, Set<string>> {
  const unknown = new Map<Topic, Set<string>>();
  for (const { topic, command } of units.flatMap(({ publishes }) => publishes)) {
    const { idempotencyWindowMs } = topic.row;
    if (command.idempotencyKeys === null || topic.keys.isComplete(idempotencyWindowMs, nowMs)) continue;
    for (const key of command.idempotencyKeys) {
      if (key === null || topic.keys.find(key, idempotencyWindowMs, nowMs) !== null) continue;
      const keys = unknown.get(topic);
      if (keys === undefined) unknown.set(topic, new Set([key]));
      else keys.add(key);
    }
  }
  return unknown;
}

export function topicsOf(units: readonly CommitUnit[]): Set<Topic> {
  const topics = new Set<Topic>();
  for (const { publishes } of units) for (const { topic } of publishes) topics.add(topic);
  return topics;
}
