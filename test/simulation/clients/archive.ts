import type { SentBatch } from '../ledgers/ledger.ts';
import { commandOf } from './publisher.ts';
import type { PublishCommand } from '../../../src/commit/publish.ts';

/**
 * The topic to which settlements move records. A record is in it if and only if that has completed
 * it.
 */
export const archiveTopic = 'archive';

/** A publish of records of the batch to the archive. Each try has its own `id`. */
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

/** The group and the record that a record of the archive stands for. */
export function archivedRecord(value: string): string {
  return value.slice(0, value.indexOf('#'));
}
