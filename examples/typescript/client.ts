import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { Client, credentials } from '@grpc/grpc-js';
import type { ClientReadableStream, Metadata } from '@grpc/grpc-js';
import { ErrorInfoSchema } from '../../gen/google/rpc/error_details_pb.js';
import { StatusSchema } from '../../gen/google/rpc/status_pb.js';

/**
 * protoc-gen-es makes messages and descriptors; this is all that a grpc-js client needs besides.
 */
export function connect(address: string): Client {
  return new Client(address, credentials.createInsecure(), {
    // The default of 64 KiB, shared by all streams of the connection, halves the rate.
    'grpc-node.flow_control_window': 4 * 1024 * 1024,
  });
}

const path = (method: DescMethod): string => `/${method.parent.typeName}/${method.name}`;

function codec<M extends DescMethod>(method: M) {
  return {
    encode: (request: MessageInitShape<M['input']>) =>
      Buffer.from(toBinary(method.input, create(method.input, request))),
    decode: (bytes: Buffer) => fromBinary(method.output, bytes) as MessageShape<M['output']>,
  };
}

export function call<M extends DescMethod>(
  client: Client,
  method: M,
  request: MessageInitShape<M['input']>,
): Promise<MessageShape<M['output']>> {
  const { encode, decode } = codec(method);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path(method), encode, decode, request, (error, response) => {
      if (error === null) resolve(response!);
      else reject(error);
    });
  });
}

export function serverStream<M extends DescMethod>(
  client: Client,
  method: M,
  request: MessageInitShape<M['input']>,
): ClientReadableStream<MessageShape<M['output']>> {
  const { encode, decode } = codec(method);
  return client.makeServerStreamRequest(path(method), encode, decode, request);
}

/** The reason of google.rpc.ErrorInfo, one of docs/errors.md; '' for an error without one. */
export function reason(error: { readonly metadata?: Metadata }): string {
  const [trailer] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!(trailer instanceof Buffer)) return '';
  for (const detail of fromBinary(StatusSchema, trailer).details) {
    const info = anyUnpack(detail, ErrorInfoSchema);
    if (info !== undefined) return info.reason;
  }
  return '';
}
