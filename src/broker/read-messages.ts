import { Rejection } from '../errors/rejection.ts';
import { endOffset, recordBytes, type BatchCodec, type EncodedBatch } from '../log/batch.ts';
import type { PartitionLog } from '../log/partition-log.ts';
import type { ReadMessagesCommand, ReadMessagesOutcome } from './broker.ts';

/** Browses a log from a position on, without a group: nothing is remembered, nothing is acked. */
export async function readMessages(
  command: ReadMessagesCommand,
  log: PartitionLog,
  codec: BatchCodec,
): Promise<ReadMessagesOutcome> {
  let nextOffset = await beginning(command, log);
  const fields: Buffer[] = [];
  let records = 0;
  let bytes = 0;
  while (records < command.maxRecords && nextOffset < log.endOffset) {
    const batch = log.cached(nextOffset) ?? (await log.fetch(nextOffset));
    if (batch === null) break;
    const left = { records: command.maxRecords - records, bytes: command.maxBytes - bytes };
    const last = lastThatFits(batch, nextOffset, left, records === 0);
    if (last < nextOffset) break;
    fields.push(encoding(batch, nextOffset, last, codec));
    records += last - nextOffset + 1;
    bytes += recordBytes(batch, nextOffset, last);
    nextOffset = last + 1;
  }
  return { fields, nextOffset, highWatermark: log.endOffset, logStartOffset: log.startOffset };
}

async function beginning({ from }: ReadMessagesCommand, log: PartitionLog): Promise<number> {
  if (from === null) return log.startOffset;
  if ('timeUs' in from) return log.offsetAtTime(from.timeUs);
  if (from.offset >= log.startOffset && from.offset <= log.endOffset) return from.offset;
  const { topicName, partition } = log.address;
  throw new Rejection(
    'OFFSET_OUT_OF_RANGE',
    `partition ${partition} of topic "${topicName}" is read from ${log.startOffset} to its end at ${log.endOffset}, not from ${from.offset}`,
    {
      metadata: {
        topic: topicName,
        partition: String(partition),
        logStartOffset: String(log.startOffset),
        highWatermark: String(log.endOffset),
      },
    },
  );
}

/** At least one record, if it is the first: a record larger than the limit could never be read else. */
function lastThatFits(
  batch: EncodedBatch,
  first: number,
  left: { readonly records: number; readonly bytes: number },
  isFirst: boolean,
): number {
  let last = Math.min(endOffset(batch), first + left.records) - 1;
  while (last >= first && recordBytes(batch, first, last) > left.bytes) last--;
  return isFirst ? Math.max(first, last) : last;
}

function encoding(batch: EncodedBatch, first: number, last: number, codec: BatchCodec): Buffer {
  if (first === batch.baseOffset && last === endOffset(batch) - 1) return batch.bytes;
  const offsets = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  return codec.cut(
    batch,
    offsets,
    offsets.map(() => 1),
  );
}
