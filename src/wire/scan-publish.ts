import { invalidField, requestTooLarge } from '../errors/rejections/requests.ts';
import { limits, type TunableLimits } from '../limits/limits.ts';
import { nameViolation } from '../limits/names.ts';
import type { PublishCommand, PublishStreamToken } from '../commit/publish.ts';
import { RecordScan } from './record-scan.ts';
import { RequestReader } from './request-reader.ts';

/** Tags of PublishRequest and of PublishStreamRequest, which have the same fields. */
const topicTag = 0x0a;
const recordsTag = 0x12;
const partitionTag = 0x18;
const ackModeTag = 0x20;
const expectedOffsetTag = 0x28;
const laneTag = 0x30;
const fieldMax = 6;

/** Numbers of AckMode. */
const ackModeNone = 2;

/**
 * Reads a PublishRequest or PublishStreamRequest in one pass, without an object for each record. It
 * checks the whole structure and returns the records as slices of the request. protobuf-es
 * costs three times as much, and would miss errors that only some clients fail on.
 *
 * @param stream the token of the PublishStream that the request came by.
 * @throws Rejection: MALFORMED_REQUEST where the bytes are no exact protobuf, REQUEST_TOO_LARGE, or
 * INVALID_FIELD, with
 * a violation that names the field, e.g. `records[3].headers`.
 */
export function scanPublish(
  request: Buffer,
  { recordBytesMax }: Pick<TunableLimits, 'recordBytesMax'>,
  stream: PublishStreamToken | null = null,
): PublishCommand {
  checkSize(request.length);
  const reader = new RequestReader(request);
  const records = new RecordScan(reader, recordBytesMax);
  const fields = scanFields(reader, records);
  checkFields(fields);
  return {
    topic: fields.topic,
    records: {
      count: records.count,
      buffer: records.extras.length === 0 ? request : Buffer.concat([request, ...records.extras]),
      bounds: records.bounds(),
    },
    idempotencyKeys: records.idempotencyKeys(),
    partition: fields.partition,
    committed: fields.ackMode !== ackModeNone,
    expectedOffset: fields.expectedOffset,
    lane: fields.lane,
    stream,
  };
}

interface PublishFields {
  topic: string;
  recordCount: number;
  partition: number | null;
  ackMode: number;
  expectedOffset: number | null;
  lane: number | null;
}

function scanFields(reader: RequestReader, records: RecordScan): PublishFields {
  const end = reader.buffer.length;
  const fields: PublishFields = {
    topic: '',
    recordCount: 0,
    partition: null,
    ackMode: 0,
    expectedOffset: null,
    lane: null,
  };
  while (reader.at < end) {
    const tag = reader.tag(end);
    if (tag === recordsTag) {
      scanRecord(reader, records, fields.recordCount++, end);
    } else if (tag === topicTag) {
      reader.field = 'topic';
      const topicEnd = reader.text(end);
      fields.topic = reader.buffer.toString('utf8', reader.at, topicEnd);
      reader.at = topicEnd;
    } else if (tag === partitionTag) {
      reader.field = 'partition';
      fields.partition = reader.int32(end);
    } else if (tag === ackModeTag) {
      reader.field = 'ack_mode';
      fields.ackMode = reader.int32(end);
    } else if (tag === expectedOffsetTag) {
      reader.field = 'expected_offset';
      fields.expectedOffset = reader.int64(end);
    } else if (tag === laneTag) {
      reader.field = 'lane';
      fields.lane = reader.int32(end);
    } else reader.skipUnknown(tag, fieldMax, end);
  }
  return fields;
}

/** Counts the records beyond the limit, for the message of the rejection. */
function scanRecord(reader: RequestReader, records: RecordScan, index: number, end: number): void {
  reader.record = index;
  const recordEnd = reader.length(end);
  if (index < limits.publishRecordsMax) records.record(recordEnd);
  else reader.at = recordEnd;
  reader.record = -1;
}

function checkSize(bytes: number): void {
  const { publishBytesMax: bytesMax } = limits;
  if (bytes > bytesMax) throw requestTooLarge({ bytes, bytesMax });
}

function checkFields(fields: PublishFields): void {
  const { topic, recordCount, partition, ackMode, expectedOffset, lane } = fields;
  const wrongName = nameViolation(topic);
  if (wrongName !== null) throw invalidField('topic', wrongName);
  if (recordCount === 0) throw invalidField('records', 'is empty; at least 1 record is needed');
  if (recordCount > limits.publishRecordsMax) {
    const limit = `publish_records_max = ${limits.publishRecordsMax}`;
    throw invalidField('records', `has ${recordCount} entries, more than ${limit}`);
  }
  if (partition !== null && partition < 0) throw invalidField('partition', `is ${partition}; it must not be negative`);
  if (ackMode < 0 || ackMode > ackModeNone) throw invalidField('ack_mode', `is ${ackMode}, which is not a known mode`);
  if (expectedOffset !== null) checkOffset(expectedOffset);
  if (lane !== null) checkLane(lane, expectedOffset);
}

function checkLane(lane: number, expectedOffset: number | null): void {
  if (lane < 0) throw invalidField('lane', `is ${lane}; it must not be negative`);
  if (expectedOffset === null) throw invalidField('lane', 'is that of expected_offset, which is not set');
}

function checkOffset(offset: number): void {
  if (offset < 0) throw invalidField('expected_offset', `is ${offset}; it must not be negative`);
  // Offsets are numbers in the broker, exact up to here, and no log reaches it.
  if (offset > Number.MAX_SAFE_INTEGER) {
    throw invalidField('expected_offset', `must not be more than ${Number.MAX_SAFE_INTEGER}`);
  }
}
