import type { DescMethodUnary, DescService, MessageShape } from '@bufbuild/protobuf';
import type { Broker, Caller } from '../../broker/broker.ts';
import type { Reply } from '../../delivery/ports/reply.ts';
import type { Validation } from '../validation/validation.ts';

/** One call, as a handler sees it. */
export interface Call {
  readonly caller: Caller;
  /** What becomes of the answer. Made on demand: most calls never ask. */
  reply(): Reply;
}

/**
 * Validates, turns the request into a command, asks the broker, makes the response. A Buffer is a response that is
 * encoded already (it carries encoded batches).
 * @throws Rejection, Fault
 */
export type UnaryHandler<I, O> = (call: Call, request: I) => Promise<O | Buffer>;

/**
 * Does the same from the request's bytes, for requests in the form that clients send; null: they are to be decoded.
 * @throws Rejection, Fault
 */
export type BytesHandler = (call: Call, request: Buffer) => Promise<Buffer> | null;

/** The unary handlers of a service, by method; `Raw` names those that take the request's bytes. */
export type UnaryHandlers<S extends DescService, Raw extends string = never> = {
  readonly [
    K in Exclude<keyof S['method'], Raw> as S['method'][K] extends DescMethodUnary ? K : never
  ]: S['method'][K] extends DescMethodUnary<infer I, infer O> ? UnaryHandler<MessageShape<I>, MessageShape<O>> : never;
};

export interface HandlerContext {
  /** @throws Rejection NOT_OWNER while this process stands by. */
  broker(): Broker;
  readonly validation: Validation;
  readonly recordBytesMax: number;
}
