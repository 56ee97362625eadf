import type { ServiceDefinition, ServerDuplexStream, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import type { DescService } from '@bufbuild/protobuf';

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
        requestDeserialize: asIs,
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

export type RawUnaryCall = ServerUnaryCall<Buffer, Buffer>;
export type RawServerStream = ServerWritableStream<Buffer, Buffer>;
export type RawBidiStream = ServerDuplexStream<Buffer, Buffer>;
