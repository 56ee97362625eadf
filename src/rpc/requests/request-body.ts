import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { toBinary, type DescMethod } from '@bufbuild/protobuf';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { malformedRequest, requestTooLarge } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import { decodeBinary, decodeJson } from '../translation/decode.ts';

/**
 * Decodes request bodies instead of connect-node, which answers a malformed one without a reason,
 * and INTERNAL if it is binary. The bytes of a Publish go to the scan unchanged. connect-node then
 * reads an empty message. It decodes PublishStream, and compressed or unknown types: see
 * message-decoding.ts.
 */

export type NodeRequest = IncomingMessage | Http2ServerRequest;

export interface BodyFormat {
  readonly json: boolean;
  /**
   * Has five bytes of flags and length in front, as in all but unary calls of the Connect protocol.
   */
  readonly enveloped: boolean;
}

const contentTypes = /^application\/(?:(grpc-web|grpc|connect)(?:\+|$|;))?(json|proto)?(?: ?; ?charset=utf-?8)?$/i;

/** @returns null if connect-node must read the body itself. */
export function bodyFormat(method: DescMethod, request: NodeRequest): BodyFormat | null {
  const single = method.methodKind === 'unary' || method.methodKind === 'server_streaming';
  const match = contentTypes.exec(request.headers['content-type'] ?? '');
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (!single || match === null || encoding !== 'identity') return null;
  return { enveloped: match[1] !== undefined, json: match[2]?.toLowerCase() === 'json' };
}

/**
 * The decoded request; for Publish its bytes.
 * @throws Rejection
 */
export async function readRequest(request: NodeRequest, method: DescMethod, format: BodyFormat): Promise<unknown> {
  const body = await collect(request, format.json ? limits.jsonRequestBytesMax : limits.publishBytesMax + 5);
  const bytes = format.enveloped ? unwrapped(body) : body;
  const isPublish = method === BrokerService.method.publish;
  if (!format.json) return isPublish ? bytes : decodeBinary(method.input, bytes);
  const message = decodeJson(method.input, bytes);
  return isPublish ? Buffer.from(toBinary(method.input, message)) : message;
}

/** The empty message in the same format. */
export function emptyBody({ json, enveloped }: BodyFormat): Buffer {
  const message = json ? '{}' : '';
  return Buffer.from((enveloped ? `\0\0\0\0${String.fromCharCode(message.length)}` : '') + message, 'latin1');
}

/**
 * Reads and drops the bytes beyond the limit, because a client sends its whole request before it
 * reads an answer.
 */
function collect(request: NodeRequest, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= bytesMax) chunks.push(chunk);
      else {
        chunks = [];
        reject(requestTooLarge({ bytes: null, bytesMax }));
      }
    });
    request.on('end', () => {
      resolve(Buffer.concat(chunks));
    });
    request.on('close', () => {
      reject(malformedRequest('the request ended early'));
    });
    request.on('error', reject);
  });
}

function unwrapped(body: Buffer): Buffer {
  const whole = body.length >= 5 && body[0] === 0 && body.readUInt32BE(1) === body.length - 5;
  if (whole) return body.subarray(5);
  throw malformedRequest('the request is not one uncompressed message with its five bytes of prefix');
}
