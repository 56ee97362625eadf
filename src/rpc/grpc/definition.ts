import type { ServerHttp2Stream } from 'node:http2';
import type {
  Metadata,
  ServiceDefinition,
  ServerDuplexStream,
  ServerUnaryCall,
  ServerWritableStream,
} from '@grpc/grpc-js';
import type { DescMethod, DescService } from '@bufbuild/protobuf';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import type { MethodCalls } from '../edge/call-counts.ts';
import type { SentStatus } from './status.ts';

/**
 * grpc-js sees only bytes, in both directions. Publish and batches are never decoded here. A
 * handler must reject a request that does not decode, because grpc-js answers INTERNAL when a
 * deserializer throws.
 */
export function rawService(service: DescService): ServiceDefinition {
  return Object.fromEntries(
    service.methods.map((method) => {
      const { methodKind } = method;
      const definition = {
        path: `/${service.typeName}/${method.name}`,
        requestStream: methodKind === 'client_streaming' || methodKind === 'bidi_streaming',
        responseStream: methodKind === 'server_streaming' || methodKind === 'bidi_streaming',
        requestSerialize: asIs,
        requestDeserialize: takesBytes(method) ? asIs : inBox,
        responseSerialize: asIs,
        responseDeserialize: asIs,
      };
      return [method.localName, definition];
    }),
  );
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}

/** Publishes are counted as long as they are kept, and the messages of a stream are not kept. */
function takesBytes(method: DescMethod): boolean {
  const { methodKind } = method;
  return (
    method === BrokerService.method.publish || methodKind === 'client_streaming' || methodKind === 'bidi_streaming'
  );
}

function inBox(bytes: Buffer): RequestBox {
  return new RequestBox(bytes);
}

/**
 * The bytes of a request. grpc-js keeps the request until the call ends, which may be after hours,
 * so its handler takes the bytes out.
 */
class RequestBox {
  #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** To be called once. */
  take(): Buffer {
    const bytes = this.#bytes;
    this.#bytes = nothing;
    return bytes;
  }
}

const nothing = Buffer.alloc(0);

export type RawPublishCall = ServerUnaryCall<Buffer, Buffer>;
export type RawUnaryCall = ServerUnaryCall<RequestBox, Buffer>;
export type RawServerStream = ServerWritableStream<RequestBox, Buffer>;
export type RawBidiStream = ServerDuplexStream<Buffer, Buffer>;

/** The same bytes, not a copy. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The private parts of a call of grpc-js that this edge uses; a test pins them. */
export interface ServedCall {
  /** Where this edge counts the call when it ends; undefined afterwards. */
  calls: MethodCalls | undefined;
  readonly stream: ServerHttp2Stream;
  decoder: { write(chunk: Buffer): Buffer[] };
  /** At the end of the request, also by a reset; then the handler gets the message. */
  handleEndEvent(): void;
  sendMetadata(metadata: Metadata): void;
  sendMessage(message: unknown, sent: () => void): void;
  sendStatus(status: SentStatus): void;
}

/** The methods that grpc-js has given to the call. */
export function own(call: ServedCall): ServedCall {
  return Object.getPrototypeOf(call) as ServedCall;
}
