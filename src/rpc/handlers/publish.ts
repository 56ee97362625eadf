import { encodePublishResponse } from '../../wire/encode-publish-response.ts';
import { scanPublish } from '../../wire/scan-publish.ts';
import type { Call, HandlerContext } from '../edge/call.ts';

/** Publish works on bytes: the scan finds and checks the records, and nothing decodes them. */
export type PublishHandler = (call: Call, request: Buffer) => Promise<Buffer>;

export function publishHandler({ services, recordBytesMax }: HandlerContext): PublishHandler {
  return async (_call, request) => {
    const command = scanPublish(request, { recordBytesMax });
    const published = await services().broker.publish(command);
    return encodePublishResponse(published);
  };
}
