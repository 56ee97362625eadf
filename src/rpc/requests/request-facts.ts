import { createContextKey } from '@connectrpc/connect';

/** Facts of a request that the listener knows and connect-node does not pass on. */
export interface RequestFacts {
  readonly host: string | undefined;
  /** Whether the connection of the request is open: a stream over HTTP/2 may end without it. */
  readonly isConnected: () => boolean;
  /** The decoded message, or for Publish its bytes (see request-body.ts). */
  decoded: unknown;
  /** The same of a stream: the messages that connect-node has not passed on yet, in their order. */
  readonly messages: unknown[];
}

export const requestFacts = createContextKey<RequestFacts>({
  host: undefined,
  isConnected: () => false,
  decoded: undefined,
  messages: [],
});
