import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { Client, credentials } from '@grpc/grpc-js';
import type {
  CallOptions,
  ChannelOptions,
  ClientDuplexStream,
  ClientReadableStream,
  ServiceError,
} from '@grpc/grpc-js';

/**
 * A grpc-js client for protobuf-es service descriptors. protoc-gen-es generates messages and
 * descriptors, but no stubs for grpc-js; this file replaces them.
 */
export function connect(address: string, options: ChannelOptions = {}): Client {
  return new Client(address, credentials.createInsecure(), { ...channelOptions, ...options });
}

/**
 * The default flow-control window is 64 KiB for all streams of a connection. It would stop the
 * broker after every batch, which halves the rate (4 groups, records of 2 KiB).
 */
const channelOptions: ChannelOptions = {
  'grpc-node.flow_control_window': 4 * 1024 * 1024,
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
};

type Request<M extends DescMethod> = MessageInitShape<M['input']>;
type Response<M extends DescMethod> = MessageShape<M['output']>;

export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

export function encodeRequest<M extends DescMethod>(method: M): (request: Request<M>) => Buffer {
  return (request) => {
    const bytes = toBinary(method.input, create(method.input, request));
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

export function decodeResponse<M extends DescMethod>(method: M): (bytes: Buffer) => Response<M> {
  return (bytes) => fromBinary(method.output, bytes) as Response<M>;
}

/** A unary call as a promise. @throws ServiceError of grpc-js */
export function call<M extends DescMethod>(
  client: Client,
  method: M,
  request: Request<M>,
  options: CallOptions = {},
): Promise<Response<M>> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest<Request<M>, Response<M>>(
      methodPath(method),
      encodeRequest(method),
      decodeResponse(method),
      request,
      options,
      (error: ServiceError | null, response) => {
        if (error !== null) reject(error);
        else resolve(response!);
      },
    );
  });
}

/** A server stream of decoded messages. */
export function openServerStream<M extends DescMethod>(
  client: Client,
  method: M,
  request: Request<M>,
): ClientReadableStream<Response<M>> {
  return client.makeServerStreamRequest(methodPath(method), encodeRequest(method), decodeResponse(method), request);
}

export function openDuplexStream<M extends DescMethod>(
  client: Client,
  method: M,
): ClientDuplexStream<Request<M>, Response<M>> {
  return client.makeBidiStreamRequest(methodPath(method), encodeRequest(method), decodeResponse(method));
}
