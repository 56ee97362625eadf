import type { DescMethod } from '@bufbuild/protobuf';
import type { ConnectRouterOptions } from '@connectrpc/connect';
import { Rejection } from '../../errors/rejection.ts';
import type { ReportBug } from '../edge/errors.ts';
import { decodeJson } from '../translation/decode.ts';
import { connectErrorOf } from './connect-error.ts';

/**
 * What request-body.ts leaves to connect-node is decoded by connect-node, which replaces bytes that
 * are not UTF-8, drops a byte order mark and ignores fields that it does not know. Its JSON codec
 * asks this decoder for the text of each message, so that such a message is refused as in all other
 * calls.
 */
export function strictJson(method: DescMethod, reportBug: ReportBug): Pick<ConnectRouterOptions, 'jsonOptions'> {
  const textDecoder = {
    decode(bytes: Uint8Array): string {
      try {
        decodeJson(method.input, bytes);
      } catch (error) {
        throw connectErrorOf(error, reportBug);
      }
      return Buffer.from(bytes).toString();
    },
  };
  // The type of these options inside connect-node has the decoder; the exported type does not.
  return { jsonOptions: { textDecoder, ignoreUnknownFields: false } as ConnectRouterOptions['jsonOptions'] & object };
}

/** What connect-node failed with when it decoded a message of a stream. */
export function malformedMessage(error: unknown): Rejection {
  if (error instanceof Error && error.cause instanceof Rejection) return error.cause;
  return new Rejection('MALFORMED_REQUEST', error instanceof Error ? error.message : String(error));
}
