import { isUtf8 } from 'node:buffer';
import { fromBinary, fromJsonString, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { weights } from '../../account/weights.ts';
import type { Rejection } from '../../errors/rejections/rejection.ts';
import { malformedRequest, requestTooLarge } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import { countEntries, type RequestCount } from './entry-count.ts';
import { checkJsonNumbers } from './json-numbers.ts';
import { checkJsonSize } from './json-size.ts';
import { ownBytes } from './own-bytes.ts';

/**
 * Decodes the bytes of a request, for both edges, so that both reject bad requests with the same
 * words.
 */

/** Where a call counts what its request becomes, until its handler ends. */
export interface DecodedRequest {
  /** @throws Rejection BROKER_BUSY */
  holdDecoded(bytes: number): void;
}

/**
 * Unknown fields are not kept: no caller reads them, and 4 MiB of them would live as long as the
 * message. `held` is null where the message does not outlive the turn of the event loop.
 * @throws Rejection REQUEST_TOO_LARGE, MALFORMED_REQUEST, INVALID_FIELD, BROKER_BUSY
 */
export function decodeBinary<D extends DescMessage>(
  desc: D,
  bytes: Buffer,
  held: DecodedRequest | null = null,
): MessageShape<D> {
  if (bytes.length > limits.publishBytesMax) throw requestTooLarge({ bytes: null, bytesMax: limits.publishBytesMax });
  const count = countEntries(desc, bytes);
  if (bytes.length > limits.uncountedRequestBytesMax) held?.holdDecoded(decodedBytes(count));
  try {
    const message = fromBinary(desc, bytes, { readUnknownFields: false });
    ownBytes(desc, message);
    return message;
  } catch (error) {
    throw malformed(desc, 'protobuf', error);
  }
}

/** Texts may take two bytes for each byte of the request. */
function decodedBytes({ entries, messages, textBytes }: RequestCount): number {
  return messages * weights.decodedMessage + entries * weights.decodedScalar + 2 * textBytes;
}

/**
 * Takes bytes instead of text, because a decoder of UTF-8 replaces invalid bytes, and two keys
 * would become one. A byte order mark is not JSON either. protobuf-es rejects half of a surrogate
 * pair, which JSON can write as an escape.
 * @throws Rejection MALFORMED_REQUEST
 */
export function decodeJson<D extends DescMessage>(desc: D, json: Buffer): MessageShape<D> {
  try {
    const text = textOf(json);
    const message = fromJsonString(desc, text);
    checkJsonNumbers(desc, JSON.parse(text));
    return message;
  } catch (error) {
    throw malformed(desc, 'JSON', error);
  }
}

function textOf(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new Error('its bytes are not UTF-8');
  checkJsonSize(bytes);
  return bytes.toString();
}

function malformed(desc: DescMessage, format: string, error: unknown): Rejection {
  const why = error instanceof Error ? error.message : String(error);
  return malformedRequest(`not a ${desc.typeName} in ${format}: ${why}`);
}
