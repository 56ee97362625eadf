import { ReadMessagesRequestSchema } from '../../../gen/millrace/v1/message_pb.js';
import { limits } from '../../limits/limits.ts';
import * as field from './field-rules.ts';
import { message, type RuledFields } from './rule.ts';

/** Rules for the calls of MessageService. */

export function readMessagesRule(ruled: RuledFields) {
  return message(ruled, ReadMessagesRequestSchema, {
    topic: field.name,
    partition: field.optionalPartition,
    lane: field.lane,
    offset: field.notNegative,
    timestamp: field.timestamp,
    maxRecords: field.count(limits.readRecordsMax),
    maxBytes: field.longCount(limits.readBytesMax),
  });
}
