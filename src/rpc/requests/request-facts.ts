import { createContextKey } from '@connectrpc/connect';

/** What the listener knows of a request and connect-node does not hand on. */
export interface RequestFacts {
  readonly host: string | undefined;
  /** Whether the connection that the request came on is open: a stream over HTTP/2 may end without it. */
  readonly isConnected: () => boolean;
  /** The decoded message, or for Publish its bytes, where the body was decoded here (see request-body.ts). */
  decoded: unknown;
}

export const requestFacts = createContextKey<RequestFacts>({
  host: undefined,
  isConnected: () => false,
  decoded: undefined,
});
