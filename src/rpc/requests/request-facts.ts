import { createContextKey } from '@connectrpc/connect';
import type { Rejection } from '../../errors/rejections/rejection.ts';

/** What the account of memory knows of a request's answer. */
export interface RequestAnswer {
  /** Why the request gets no answer before its client has read others, or null. */
  readonly refusal: Rejection | null;
  /**
   * Takes room for an answer of at most so many bytes in protobuf, before the work. Null: there is
   * room, and else it is waited for. @throws Rejection BROKER_BUSY, CONNECTION_BUSY
   */
  readonly reserve: (bytes: number) => Promise<void> | null;
  /** The work for which room was reserved has ended. Idempotent. */
  readonly worked: () => void;
  /** Takes room for an answer that is made. @throws Rejection BROKER_BUSY, CONNECTION_BUSY */
  readonly demand: (bytes: number) => void;
  /** The transport has so many bytes of the answer, in place of those before. */
  readonly sending: (bytes: number) => void;
  /** So many bytes of a stream wait for the transport. */
  readonly waits: (bytes: number) => void;
  readonly taken: (bytes: number) => void;
}

/** Facts of a request that the listener knows and connect-node does not pass on. */
export interface RequestFacts {
  readonly host: string | undefined;
  /** Whether the connection of the request is open: a stream over HTTP/2 may end without it. */
  readonly isConnected: () => boolean;
  readonly response: {
    /** Bytes that Node has buffered, because the client has not taken them. */
    readonly unsentBytes: () => number;
    /** Cuts the response off, because its client does not take it. */
    readonly cut: () => void;
    /** Calls `run` once when the response is closed, or at once if it is. */
    readonly whenClosed: (run: () => void) => void;
  };
  readonly answer: RequestAnswer;
  /** Whether the messages are JSON. */
  readonly json: boolean;
  /**
   * Encoded messages of the answer, in their order. Each is sent in place of an empty one that
   * connect-node gets.
   */
  readonly encoded: Buffer[];
  /** The decoded message, or for Publish its bytes (see request-body.ts). */
  decoded: unknown;
  /** The same of a stream: the messages that connect-node has not passed on yet, in their order. */
  readonly messages: unknown[];
}

export const requestFacts = createContextKey<RequestFacts>({
  host: undefined,
  isConnected: () => false,
  response: { unsentBytes: () => 0, cut: () => undefined, whenClosed: () => undefined },
  answer: {
    refusal: null,
    reserve: () => null,
    worked: () => undefined,
    demand: () => undefined,
    sending: () => undefined,
    waits: () => undefined,
    taken: () => undefined,
  },
  json: false,
  encoded: [],
  decoded: undefined,
  messages: [],
});
