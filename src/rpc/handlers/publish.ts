import type { PublishCommand } from '../../broker/broker.ts';
import { limits } from '../../limits/limits.ts';
import { encodePublishResponse } from '../../wire/publish-response.ts';
import { scanPublish } from '../../wire/publish-request.ts';
import type { Call, HandlerContext } from './call.ts';
import { tooLarge } from './decode.ts';

/** Publish takes and gives bytes: the scan finds where the records lie and checks them, and nobody decodes them. */
export type PublishHandler = (call: Call, request: Buffer) => Promise<Buffer>;

export function publishHandler({ broker, recordBytesMax }: HandlerContext): PublishHandler {
  return async (call, request) => {
    const command = scanned(request, recordBytesMax);
    const published = await broker().publish(call.caller, command);
    return encodePublishResponse(published);
  };
}

/** @throws Rejection */
export function scanned(request: Buffer, recordBytesMax: number): PublishCommand {
  if (request.length > limits.publishBytesMax) throw tooLarge(limits.publishBytesMax);
  return scanPublish(request, { recordBytesMax });
}
