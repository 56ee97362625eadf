import type { DescMethodUnary, DescService, MessageShape } from '@bufbuild/protobuf';
import type { Caller } from '../../broker/caller.ts';
import type { Services } from '../../broker/services.ts';
import type { Reply } from '../../delivery/ports/reply.ts';
import type { Authorize } from './caller.ts';
import type { Validation } from '../validation/validation.ts';

/** One call, as handlers see it. */
export interface Call {
  readonly caller: Caller;
  /** So many bytes of records in protobuf fit into one answer in the format of the call. */
  readonly recordsBytesMax: number;
  /**
   * Checks a batch of one record that may be larger than that; absent: there is always room for it.
   * @throws Rejection RECORD_TOO_LARGE_IN_JSON
   */
  readonly checkRecord?: (batch: Buffer) => void;
  /** The fate of the answer. Created on demand, because most calls never use it. */
  reply(): Reply;
}

/**
 * Validates, builds a command, calls the broker, builds the response. A Buffer is a response that
 * is already encoded (with encoded batches).
 * @throws Rejection, Fault
 */
export type UnaryHandler<I, O> = (call: Call, request: I) => Promise<O | Buffer>;

/**
 * Does the same from the request's bytes, for requests in the usual form; null: the edge must
 * decode them.
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
  readonly authorize: Authorize;
  /** @throws Rejection NOT_OWNER while this process stands by. */
  services(): Services;
  readonly validation: Validation;
  readonly recordBytesMax: number;
  /** The retention after completion of topics that are created without one; null: for ever. */
  readonly defaultRetentionMs: number | null;
}
