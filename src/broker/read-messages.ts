import { offsetOutOfRange } from '../errors/rejections/topics.ts';
import { limits } from '../limits/limits.ts';
import { endOffset, fieldOf, lastThatFits, type BatchCodec, type EncodedBatch } from '../log/batch.ts';
import type { PartitionLog } from '../log/partition-log.ts';
import { BelowLogStart } from '../log/store.ts';
import type { ReadMessagesCommand, ReadMessagesOutcome } from './commands.ts';

/** Browses a log from a position on, without a group, a cursor or acks. */
export async function readMessages(
  command: ReadMessagesCommand,
  log: PartitionLog,
  codec: BatchCodec,
): Promise<ReadMessagesOutcome> {
  let nextOffset = await beginning(command, log);
  const bytesMax = Math.min(command.maxBytes, limits.messageBytesMax - limits.recordsHeadBytesMax);
  const fields: Buffer[] = [];
  let records = 0;
  let bytes = 0;
  while (records < command.maxRecords && nextOffset < log.endOffset) {
    const batch = log.cached(nextOffset) ?? (await fetched(log, nextOffset));
    if (batch === 'GONE') {
      nextOffset = log.startOffset;
      continue;
    }
    if (batch === null) break;
    // At least one record, because a record larger than `maxBytes` could never be read otherwise.
    const isFirst = records === 0;
    const left = { records: command.maxRecords - records, bytes: bytesMax - bytes };
    const last = lastThatFits(batch, nextOffset, endOffset(batch) - 1, (count, size) => {
      return count <= left.records && (size <= left.bytes || (isFirst && count === 1));
    });
    if (last < nextOffset) break;
    const field = fieldOf(codec, batch, nextOffset, last, null);
    if (isFirst && field.length > bytesMax) command.checkRecord?.(field);
    fields.push(field);
    records += last - nextOffset + 1;
    // With the name of the partition, which may be longer than the records of a batch.
    bytes += field.length;
    nextOffset = last + 1;
  }
  return { fields, nextOffset, highWatermark: log.endOffset, logStartOffset: log.startOffset };
}

/** GONE: the records were dropped during the call, which goes on at the new start. */
async function fetched(log: PartitionLog, offset: number): Promise<EncodedBatch | 'GONE' | null> {
  try {
    return await log.fetch(offset);
  } catch (error) {
    if (error instanceof BelowLogStart) return 'GONE';
    throw error;
  }
}

async function beginning({ from }: ReadMessagesCommand, log: PartitionLog): Promise<number> {
  if (from === null) return log.startOffset;
  if ('timeUs' in from) return log.offsetAtTime(from.timeUs);
  if (from.offset >= log.startOffset && from.offset <= log.endOffset) return from.offset;
  const { topicName: topic, partition } = log.address;
  const extent = { logStartOffset: log.startOffset, highWatermark: log.endOffset };
  throw offsetOutOfRange({ topic, partition, ...extent, offset: from.offset });
}
