import { create, toBinary } from '@bufbuild/protobuf';
import {
  ReadMessagesResponseSchema,
  type MessageService,
  type ReadMessagesRequest,
} from '../../../gen/millrace/v1/message_pb.js';
import type { ReadMessagesCommand } from '../../broker/commands.ts';
import { limits } from '../../limits/limits.ts';
import { appendFields } from '../../wire/batch-event.ts';
import { microseconds, numberOr } from '../validation/defaults.ts';
import type { Call, HandlerContext, UnaryHandlers } from '../edge/call.ts';

export function messageService({ services, validation }: HandlerContext): UnaryHandlers<typeof MessageService> {
  return {
    async readMessages(call, request) {
      validation.readMessages(request);
      const found = await services().message.readMessages(readMessagesCommand(call, request));
      const response = create(ReadMessagesResponseSchema, {
        nextOffset: BigInt(found.nextOffset),
        highWatermark: BigInt(found.highWatermark),
        logStartOffset: BigInt(found.logStartOffset),
      });
      return appendFields(toBinary(ReadMessagesResponseSchema, response), found.fields);
    },
  };
}

function readMessagesCommand(
  { recordsBytesMax, checkRecord }: Call,
  request: ReadMessagesRequest,
): ReadMessagesCommand {
  return {
    topic: request.topic,
    partition: request.partition ?? 0,
    lane: request.lane ?? null,
    from: readFrom(request.from),
    maxRecords: numberOr(request.maxRecords, limits.readRecordsDefault),
    maxBytes: Math.min(numberOr(request.maxBytes, limits.readBytesDefault), recordsBytesMax),
    ...(checkRecord !== undefined && { checkRecord }),
  };
}

function readFrom(from: ReadMessagesRequest['from']): ReadMessagesCommand['from'] {
  if (from.case === 'offset') return { offset: Number(from.value) };
  if (from.case === 'timestamp') return { timeUs: microseconds(from.value) };
  return null;
}
