import { fromBinary } from '@bufbuild/protobuf';
import { ReadMessagesResponseSchema } from '../../../gen/millrace/v1/message_pb.js';
import type { Batch, Record } from '../../../gen/millrace/v1/record_pb.js';
import { recordTooLargeInJson } from '../../errors/rejections/topics.ts';
import { limits } from '../../limits/limits.ts';

/**
 * How large records become in JSON. Bytes grow by a third, and a control character of a text
 * becomes six bytes. Several records of one answer have room for that (`jsonRecordsBytesMax`). One
 * record alone may be too large.
 */

/** The offset, the attempt, the time, and the names of the fields. */
const recordHeadBytes = 160;
/** The quotes, the colon and the comma. */
const headerHeadBytes = 6;

/** The most bytes of a record in JSON, of which only those around its contents are estimated. */
export function jsonBytesOfRecord(record: Record | undefined): number {
  if (record === undefined) return recordHeadBytes;
  const { key, value, headers, idempotencyKey } = record;
  let bytes =
    recordHeadBytes + 4 * Math.ceil(value.length / 3) + jsonBytesOfText(key) + jsonBytesOfText(idempotencyKey);
  for (const [name, text] of Object.entries(headers)) {
    bytes += headerHeadBytes + jsonBytesOfText(name) + jsonBytesOfText(text);
  }
  return bytes;
}

/** The bytes of a text between its quotes. */
function jsonBytesOfText(text: string): number {
  let bytes = Buffer.byteLength(text);
  for (let at = 0; at < text.length; at++) bytes += escapeBytes(text.charCodeAt(at));
  return bytes;
}

/** The bytes that an escape adds to those of the character. */
function escapeBytes(code: number): number {
  if (code >= 0x20) return code === 0x22 || code === 0x5c ? 1 : 0;
  const hasShortForm = code === 0x08 || code === 0x09 || code === 0x0a || code === 0x0c || code === 0x0d;
  return hasShortForm ? 1 : 5;
}

/** @throws Rejection RECORD_TOO_LARGE_IN_JSON for a batch of one record that has no room */
export function checkJsonBatch({ topic, partition = 0, records }: Batch): void {
  const [delivered, ...others] = records;
  const bytesMax = limits.messageBytesMax - limits.recordsHeadBytesMax;
  if (delivered === undefined || others.length > 0 || jsonBytesOfRecord(delivered.record) <= bytesMax) return;
  throw recordTooLargeInJson({ topic, partition, offset: Number(delivered.offset) });
}

/** The same for an encoded batch, which is field 4 of an answer. @throws Rejection */
export function checkJsonField(field: Buffer): void {
  for (const batch of fromBinary(ReadMessagesResponseSchema, field).batches) checkJsonBatch(batch);
}
