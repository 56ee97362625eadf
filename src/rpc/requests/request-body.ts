import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { toBinary, type DescMethod } from '@bufbuild/protobuf';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import { MessageBytes } from '../edge/message-bytes.ts';
import { decodeBinary, decodeJson } from '../translation/decode.ts';

/**
 * Decodes request bodies instead of connect-node, which answers a malformed one without a reason,
 * and INTERNAL if it is binary, and which builds a message of any number of entries. The bytes of a
 * Publish go to the scan unchanged. connect-node then reads an empty message.
 */

export type NodeRequest = IncomingMessage | Http2ServerRequest;

interface BodyFormat {
  readonly json: boolean;
  /**
   * Has five bytes of flags and length in front, as in all but unary calls of the Connect protocol.
   */
  readonly enveloped: boolean;
}

const contentTypes = /^application\/(?:(grpc-web|grpc|connect)(?:\+|$|;))?(json|proto)?(?: ?; ?charset=utf-?8)?$/i;

/** @returns null for a type or an encoding that no call has. */
export function bodyFormat(request: NodeRequest): BodyFormat | null {
  const match = contentTypes.exec(request.headers['content-type'] ?? '');
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (match === null || encoding !== 'identity') return null;
  return { enveloped: match[1] !== undefined, json: match[2]?.toLowerCase() === 'json' };
}

/**
 * The decoded request; for Publish its bytes.
 * @throws Rejection
 */
export async function readRequest(request: NodeRequest, method: DescMethod, format: BodyFormat): Promise<unknown> {
  const prefixBytes = format.enveloped ? 5 : 0;
  const body = await collect(request, requestBytesMax(method, format.json) + prefixBytes);
  return decoded(format.enveloped ? unwrapped(body) : body, method, format.json);
}

export function requestBytesMax(method: DescMethod, json: boolean): number {
  if (!json) return limits.publishBytesMax;
  return isPublish(method) ? limits.jsonPublishBytesMax : limits.jsonRequestBytesMax;
}

/** A message; of Publish and PublishStream its bytes, which the scan reads. */
export function decoded(bytes: Buffer, method: DescMethod, json: boolean): unknown {
  if (!json) return isPublish(method) ? bytes : decodeBinary(method.input, bytes);
  const message = decodeJson(method.input, bytes);
  return isPublish(method) ? Buffer.from(toBinary(method.input, message)) : message;
}

function isPublish(method: DescMethod): boolean {
  return method === BrokerService.method.publish || method === BrokerService.method.publishStream;
}

/** The empty message in the same format. */
export function emptyBody({ json, enveloped }: BodyFormat): Buffer {
  const message = json ? '{}' : '';
  return Buffer.from((enveloped ? `\0\0\0\0${String.fromCharCode(message.length)}` : '') + message, 'latin1');
}

/**
 * Reads and drops what comes after a violation, because a client sends its whole request before it
 * reads an answer.
 */
function collect(request: NodeRequest, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let message: MessageBytes | null = new MessageBytes(bytesMax);
    request.on('data', (chunk: Buffer) => {
      try {
        message?.add(chunk);
      } catch (error) {
        message = null;
        if (error instanceof Error) reject(error);
      }
    });
    request.on('end', () => {
      if (message !== null) resolve(message.bytes());
    });
    const endEarly = (): void => {
      reject(malformedRequest('the request ended early'));
    };
    request.on('close', endEarly).on('error', endEarly);
  });
}

function unwrapped(body: Buffer): Buffer {
  const whole = body.length >= 5 && body[0] === 0 && body.readUInt32BE(1) === body.length - 5;
  if (whole) return body.subarray(5);
  throw malformedRequest('the request is not one uncompressed message with its five bytes of prefix');
}
