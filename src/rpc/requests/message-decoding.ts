import type { DescMethod } from '@bufbuild/protobuf';
import type { ConnectRouterOptions } from '@connectrpc/connect';
import { Rejection } from '../../errors/rejections/rejection.ts';
import { malformedRequest } from '../../errors/rejections/requests.ts';
import type { ReportBug } from '../edge/errors.ts';
import { decodeJson } from '../translation/decode.ts';
import { connectErrorOf } from './connect-error.ts';

/**
 * A decoder for the messages that request-body.ts leaves to connect-node, which would replace
 * invalid UTF-8, drop a byte order mark and ignore unknown fields. Its JSON codec gets the text of
 * each message from this decoder, so that such a message is rejected as in all other calls.
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
  // The option exists in the internal type of connect-node, but not in its exported type.
  return { jsonOptions: { textDecoder, ignoreUnknownFields: false } as ConnectRouterOptions['jsonOptions'] & object };
}

/** The error of connect-node when it could not decode a message of a stream. */
export function malformedMessage(error: unknown): Rejection {
  if (error instanceof Error && error.cause instanceof Rejection) return error.cause;
  return malformedRequest(error instanceof Error ? error.message : String(error));
}
