import type { IncomingMessage } from 'node:http';
import { constants, type Http2ServerRequest } from 'node:http2';
import type { DescMethod } from '@bufbuild/protobuf';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { compressionRefused, malformedRequest } from '../../errors/rejections/requests.ts';
import type { OwnedKind } from '../../account/owner.ts';
import { limits } from '../../limits/limits.ts';
import type { Deadlines } from '../../time/deadlines.ts';
import { MessageBytes } from '../bodies/message-bytes.ts';
import type { DecodedRequest } from '../translation/decode.ts';
import type { RequestDecoder } from '../translation/request-decoder.ts';
import { readNoMore } from './plain-refusal.ts';
import { countRead } from '../connections/stream-turns.ts';
import { isClosed, type NodeResponse } from './universal-response.ts';

/**
 * Decodes request bodies instead of connect-node, which answers a malformed one without a reason,
 * and INTERNAL if it is binary, and which builds a message of any number of entries. The bytes of a
 * Publish go to the scan unchanged. connect-node then reads an empty message.
 */

export type NodeRequest = IncomingMessage | Http2ServerRequest;

/** A request while it arrives. */
export interface Incoming {
  readonly request: NodeRequest;
  readonly response: NodeResponse;
  readonly decoder: RequestDecoder;
  /** The incomplete requests of the connection. */
  readonly bodies: OwnedKind;
  /** What requests of the connection have become. */
  readonly counted: OwnedKind;
  /** What is called with a request that does not arrive in time. */
  readonly arriving: Deadlines<() => void>;
}

export interface BodyFormat {
  readonly json: boolean;
  /**
   * Has five bytes of flags and length in front, as in all but unary calls of the Connect protocol.
   */
  readonly enveloped: boolean;
}

const contentTypes = /^application\/(?:(grpc-web|grpc|connect)(?:\+|$|;))?(json|proto)?(?: ?; ?charset=utf-?8)?$/i;

/** @returns null for a type that no call has. */
export function bodyFormat(request: NodeRequest): BodyFormat | null {
  const match = contentTypes.exec(request.headers['content-type'] ?? '');
  if (match === null) return null;
  return { enveloped: match[1] !== undefined, json: match[2]?.toLowerCase() === 'json' };
}

/**
 * The decoded request; for Publish its bytes.
 * @throws Rejection
 */
export async function readRequest(incoming: Incoming, method: DescMethod, format: BodyFormat): Promise<unknown> {
  const prefixBytes = format.enveloped ? 5 : 0;
  const body = await collect(incoming, requestBytesMax(method, format.json) + prefixBytes);
  const { decoder } = incoming;
  const message = format.enveloped ? unwrapped(body) : body;
  return decoded(decoder, { method, json: format.json }, message, heldUntilClosed(incoming));
}

export function requestBytesMax(method: DescMethod, json: boolean): number {
  if (!json) return limits.publishBytesMax;
  return isPublish(method) ? limits.jsonPublishBytesMax : limits.jsonRequestBytesMax;
}

/**
 * A message; of Publish and PublishStream its bytes, which the scan reads. `held` is null for a
 * stream, whose messages do not stay.
 * @throws Rejection
 */
export async function decoded(
  decoder: RequestDecoder,
  { method, json }: { readonly method: DescMethod; readonly json: boolean },
  bytes: Buffer,
  held: DecodedRequest | null = null,
): Promise<unknown> {
  if (isPublish(method)) return json ? decoder.jsonToBinary(method.input, bytes, held) : bytes;
  return json ? decoder.json(method.input, bytes, held) : decoder.binary(method.input, bytes, held);
}

function heldUntilClosed({ counted, response }: Incoming): DecodedRequest {
  return {
    holdDecoded(bytes) {
      if (isClosed(response)) return;
      const hold = counted.hold(bytes);
      response.once('close', () => {
        hold.release();
      });
    },
  };
}

function isPublish(method: DescMethod): boolean {
  return method === BrokerService.method.publish || method === BrokerService.method.publishStream;
}

/** Each protocol has a header of its own for the compression of requests. */
export const encodingHeaders = ['content-encoding', 'connect-content-encoding', 'grpc-encoding'] as const;

export function isCompressed({ headers }: NodeRequest): boolean {
  return encodingHeaders.some((name) => (headers[name] ?? 'identity') !== 'identity');
}

/** The empty message in the same format. */
export function emptyBody({ json, enveloped }: BodyFormat): Buffer {
  const message = json ? '{}' : '';
  return Buffer.from((enveloped ? `\0\0\0\0${String.fromCharCode(message.length)}` : '') + message, 'latin1');
}

/**
 * The bytes of the body. After a violation a limited remainder is read and dropped, because a
 * client sends its whole request before it reads an answer.
 */
function collect({ arriving, bodies, request, response }: Incoming, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const message = new MessageBytes(bytesMax, bodies);
    response.once('close', () => {
      message.release();
    });
    const dropped = new DroppedBytes();
    let refusal: Error | null = null;
    let isRefused = false;
    const refuse = (why: Error): void => {
      if (isRefused) return;
      isRefused = true;
      arriving.over(late);
      if (!request.complete) readNoMore(response);
      reject(why);
    };
    const late = (): void => {
      refuse(refusal ?? malformedRequest('the request was not complete in time'));
    };
    arriving.begin(late);
    request.on('data', (chunk: Buffer) => {
      if ('stream' in request) countRead(request.stream, chunk.length);
      if (refusal !== null) {
        if (dropped.add(chunk)) return;
        refuse(refusal);
        // One read of the socket may bring 200,000 frames before the answer goes out.
        if ('stream' in request) request.stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
        return;
      }
      try {
        message.add(chunk);
      } catch (error) {
        message.release();
        refusal = error as Error;
        // Over HTTP/2 the answer can end the request, and the client reads it.
        if ('stream' in request) refuse(refusal);
      }
    });
    request.on('end', () => {
      arriving.over(late);
      if (refusal === null) resolve(message.bytes());
      else reject(refusal);
    });
    const endEarly = (): void => {
      refuse(refusal ?? malformedRequest('the request ended early'));
    };
    request.on('close', endEarly).on('error', endEarly);
  });
}

/** The bytes of a refused request, which nobody needs. */
class DroppedBytes {
  #bytes = 0;
  #pieces = 0;

  /** @returns whether more may come. */
  add({ length }: Buffer): boolean {
    this.#bytes += length;
    this.#pieces += 1;
    return this.#bytes <= limits.droppedBytesMax && this.#pieces <= limits.droppedPiecesMax;
  }
}

/** Of the flags in front of a message. */
export const compressedFlag = 1;

function unwrapped(body: Buffer): Buffer {
  const whole = body.length >= 5 && body[0] === 0 && body.readUInt32BE(1) === body.length - 5;
  if (whole) return body.subarray(5);
  if (((body[0] ?? 0) & compressedFlag) !== 0) throw compressionRefused();
  throw malformedRequest('the request is not one message with its five bytes of prefix');
}
