import { createContextKey } from '@connectrpc/connect';

/** Facts of a request that the listener knows and connect-node does not pass on. */
export interface RequestFacts {
  readonly host: string | undefined;
  /**
   * The decoded message, or for Publish its bytes, if the body was decoded here (see
   * request-body.ts).
   */
  decoded: unknown;
}

export const requestFacts = createContextKey<RequestFacts>({ host: undefined, decoded: undefined });
