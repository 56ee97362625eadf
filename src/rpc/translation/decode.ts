import { isUtf8 } from 'node:buffer';
import { fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { weights } from '../../account/weights.ts';
import { Rejection } from '../../errors/rejections/rejection.ts';
import { malformedRequest, requestTooLarge } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import { atOnce } from '../../time/in-turns.ts';
import { binaryPieces } from './binary-pieces.ts';
import { countEntries, type RequestCount } from './entry-count.ts';
import { spanOf } from './json-outline.ts';
import { joined, jsonParts } from './json-pieces.ts';
import { checkJsonSize, type JsonSize } from './json-size.ts';
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
  holdDecoded(held, countEntries(desc, bytes));
  try {
    const message = fromBinary(desc, bytes, { readUnknownFields: false });
    ownBytes(desc, message);
    return message;
  } catch (error) {
    throw malformed(desc, 'protobuf', error);
  }
}

/** Counts what is decoded, unless it is little. Texts may take two bytes for each byte. */
function holdDecoded(held: DecodedRequest | null, { entries, messages, textBytes }: RequestCount): void {
  const bytes = messages * weights.decodedMessage + entries * weights.decodedScalar + 2 * textBytes;
  if (bytes > limits.uncountedRequestBytesMax) held?.holdDecoded(bytes);
}

/** As `decodeBinary`, in short steps. @throws Rejection */
export function* binarySteps<D extends DescMessage>(
  desc: D,
  bytes: Buffer,
  held: DecodedRequest | null,
): Generator<null, MessageShape<D>> {
  if (bytes.length <= limits.bytesAtOnceMax || bytes.length > limits.publishBytesMax)
    return decodeBinary(desc, bytes, held);
  holdDecoded(held, countEntries(desc, bytes));
  yield null;
  try {
    const message = yield* binaryPieces(desc, bytes);
    ownBytes(desc, message);
    return message;
  } catch (error) {
    throw malformed(desc, 'protobuf', error);
  }
}

/**
 * Takes bytes instead of text, because a decoder of UTF-8 replaces invalid bytes, and two keys
 * would become one. A byte order mark is not JSON either. protobuf-es rejects half of a surrogate
 * pair, which JSON can write as an escape, and a key that an object has twice.
 * @throws Rejection MALFORMED_REQUEST, REQUEST_TOO_LARGE
 */
export function* jsonSteps<D extends DescMessage>(
  desc: D,
  json: Buffer,
  held: DecodedRequest | null = null,
): Generator<null, MessageShape<D>> {
  try {
    const { elements, keys } = checkJson(json);
    holdDecoded(held, { entries: keys, messages: elements, textBytes: json.length });
    yield null;
    return (yield* joined(desc, jsonParts(desc, json, spanOf(json)))) as MessageShape<D>;
  } catch (error) {
    throw malformed(desc, 'JSON', error);
  }
}

/** As `jsonSteps`, at once. @throws Rejection MALFORMED_REQUEST */
export function decodeJson<D extends DescMessage>(desc: D, json: Buffer): MessageShape<D> {
  return atOnce(jsonSteps(desc, json));
}

/**
 * The message in protobuf, of which only a part exists as objects at a time. Encoded parts behind
 * each other are the encoded message.
 * @throws Rejection MALFORMED_REQUEST, REQUEST_TOO_LARGE
 */
export function* jsonToBinarySteps(
  desc: DescMessage,
  json: Buffer,
  held: DecodedRequest | null = null,
): Generator<null, Buffer> {
  const encoded: Uint8Array[] = [];
  try {
    checkJson(json);
    if (json.length > limits.uncountedRequestBytesMax) held?.holdDecoded(json.length);
    yield null;
    for (const part of jsonParts(desc, json, spanOf(json))) {
      yield null;
      if (part !== null) encoded.push(toBinary(desc, part));
    }
  } catch (error) {
    throw malformed(desc, 'JSON', error);
  }
  return Buffer.concat(encoded);
}

function checkJson(bytes: Buffer): JsonSize {
  if (!isUtf8(bytes)) throw new Error('its bytes are not UTF-8');
  return checkJsonSize(bytes);
}

function malformed(desc: DescMessage, format: string, error: unknown): Rejection {
  if (error instanceof Rejection) return error;
  const why = error instanceof Error ? error.message : String(error);
  return malformedRequest(`not a ${desc.typeName} in ${format}: ${why}`);
}
