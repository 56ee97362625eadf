import {
  create,
  createRegistry,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import {
  Client,
  credentials,
  type ChannelOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { onTestFinished } from 'vitest';
import { file_google_rpc_error_details } from '../../gen/google/rpc/error_details_pb.js';
import { StatusSchema } from '../../gen/google/rpc/status_pb.js';

type Method<I extends DescMessage, O extends DescMessage> = DescMethod & { readonly input: I; readonly output: O };

/** An ordinary grpc-js client over the generated descriptors. */
export class GrpcClient {
  readonly #client: Client;

  constructor(port: number, options: ChannelOptions = {}) {
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), options);
    onTestFinished(() => {
      this.#client.close();
    });
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return this.raw(method, encode(method.input, request)).then((bytes) => fromBinary(method.output, bytes));
  }

  raw(method: DescMethod, request: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(pathOf(method), asIs, asIs, request, (error, response) => {
        if (error !== null) reject(error);
        else resolve(response!);
      });
    });
  }

  /** Starts a call whose answer nobody waits for. @returns what cancels it. */
  cancellable(method: DescMethod, request: Buffer): () => void {
    const call = this.#client.makeUnaryRequest(pathOf(method), asIs, asIs, request, () => undefined);
    return () => {
      call.cancel();
    };
  }

  stream<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
  ): ClientReadableStream<MessageShape<O>> {
    const decode = (bytes: Buffer) => fromBinary(method.output, bytes);
    return this.#client.makeServerStreamRequest(pathOf(method), asIs, decode, encode(method.input, request));
  }

  bidi<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
  ): ClientDuplexStream<MessageInitShape<I>, MessageShape<O>> {
    const decode = (bytes: Buffer) => fromBinary(method.output, bytes);
    const encodeInput = (request: MessageInitShape<I>) => encode(method.input, request);
    return this.#client.makeBidiStreamRequest(pathOf(method), encodeInput, decode);
  }
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}

export function encode<D extends DescMessage>(desc: D, init: MessageInitShape<D>): Buffer {
  return Buffer.from(toBinary(desc, create(desc, init)));
}

const details = createRegistry(file_google_rpc_error_details);

/** The details of an error of grpc-js, by the names of their types without the package. */
export function grpcDetails(error: unknown): Record<string, unknown> {
  const [bytes] = (error as ServiceError).metadata.get('grpc-status-details-bin');
  const status = fromBinary(StatusSchema, bytes as Buffer);
  const messages = status.details.map((any) => anyUnpack(any, details)!);
  return Object.fromEntries(messages.map((message) => [message.$typeName.replace('google.rpc.', ''), message]));
}

/** What the promise rejects with. */
export async function failureOf(promise: Promise<unknown>): Promise<ServiceError> {
  return promise.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error as ServiceError,
  );
}
