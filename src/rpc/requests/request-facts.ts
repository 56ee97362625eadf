import { createContextKey } from '@connectrpc/connect';

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
  /** The decoded message, or for Publish its bytes (see request-body.ts). */
  decoded: unknown;
  /** The same of a stream: the messages that connect-node has not passed on yet, in their order. */
  readonly messages: unknown[];
}

export const requestFacts = createContextKey<RequestFacts>({
  host: undefined,
  isConnected: () => false,
  response: { unsentBytes: () => 0, cut: () => undefined, whenClosed: () => undefined },
  decoded: undefined,
  messages: [],
});
