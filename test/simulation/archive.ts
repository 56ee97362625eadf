import type { SentBatch } from './ledger.ts';
import { commandOf } from './publisher.ts';
import type { PublishCommand } from '../../src/commit/publish.ts';

/** Where members put records away instead of acking them: a record is there if and only if that has completed it. */
export const archiveTopic = 'archive';

/** A publish of records of the batch to the archive. `id` differs from that of any other try. */
export function archiveCommand(
  group: string,
  { topic, partition }: SentBatch,
  offsets: readonly number[],
  id: string,
): PublishCommand {
  const records = offsets.map((offset) => {
    return { key: `${topic}/${partition}`, value: `${group}:${topic}/${partition}@${offset}#${id}` };
  });
  return { ...commandOf(archiveTopic, records, null), idempotencyKeys: null };
}

/** Which record of which group a record of the archive is. */
export function archivedRecord(value: string): string {
  return value.slice(0, value.indexOf('#'));
}
