import type { OwnedKind } from '../../account/owner.ts';
import { compressionRefused, malformedRequest, requestTooLarge } from '../../errors/rejections/requests.ts';
import { MessageBytes } from '../bodies/message-bytes.ts';
import { compressedFlag } from './request-body.ts';

/** Flags, and the length of the message. */
export const prefixBytes = 5;

/** Told when the remainder of a message is awaited, and when it has come. */
interface PartialMessage {
  waits(): void;
  isWhole(): void;
  /** Calls `run` when the stream is closed. */
  onClose(run: () => void): void;
}

/**
 * The messages of a stream, each behind five bytes of flags and length, without those.
 * @throws Rejection REQUEST_TOO_LARGE, MALFORMED_REQUEST, COMPRESSION_REFUSED
 */
export async function* streamedMessages(
  body: AsyncIterable<Uint8Array>,
  bytesMax: number,
  partial: PartialMessage,
  bodies: OwnedKind | null = null,
): AsyncGenerator<Buffer> {
  let message = new MessageBytes(bytesMax + prefixBytes, bodies);
  partial.onClose(() => {
    message.release();
  });
  for await (const chunk of body) {
    let rest = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    while (rest.length > 0) {
      const taken = rest.subarray(0, missing(message, bytesMax));
      message.add(taken);
      rest = rest.subarray(taken.length);
      if (missing(message, bytesMax) > 0) continue;
      partial.isWhole();
      message.release();
      yield message.bytes().subarray(prefixBytes);
      message = new MessageBytes(bytesMax + prefixBytes, bodies);
    }
    if (message.length > 0) partial.waits();
  }
  if (message.length > 0) throw malformedRequest('the request ended within a message');
}

/** Bytes that the prefix or the message behind it lacks; 0: the message is whole. */
function missing(message: MessageBytes, bytesMax: number): number {
  if (message.length < prefixBytes) return prefixBytes - message.length;
  const prefix = message.bytes();
  const flags = prefix[0] ?? 0;
  if ((flags & compressedFlag) !== 0) throw compressionRefused();
  if (flags !== 0) throw malformedRequest('a message of the stream has unknown flags');
  const length = prefix.readUInt32BE(1);
  if (length > bytesMax) throw requestTooLarge({ bytes: null, bytesMax });
  return prefixBytes + length - message.length;
}
