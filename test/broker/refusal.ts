import { readFileSync } from 'node:fs';
import { status, type ServiceError } from '@grpc/grpc-js';
import { expect } from 'vitest';
import { grpcDetails } from '../rpc/grpc-client.ts';

/** What a refused call told its client, the same whichever edge it came by. */
export interface Refusal {
  /** The name of the gRPC code. */
  readonly code: string;
  readonly reason: string;
  readonly message: string;
  /** The fields of BadRequest. */
  readonly fields: readonly string[];
}

interface Details {
  readonly ErrorInfo?: { readonly reason: string; readonly domain: string };
  readonly BadRequest?: { readonly fieldViolations: readonly { readonly field: string }[] };
}

/** From an error of grpc-js. */
export function grpcRefusal(error: ServiceError): Refusal {
  return refusal(status[error.code], error.details, grpcDetails(error));
}

/** As the Connect protocol writes it. */
export interface ConnectError {
  readonly code: string;
  readonly message: string;
  readonly details: readonly { readonly type: string; readonly debug: unknown }[];
}

/** From the JSON of a Connect error. */
export function connectRefusal({ code, message, details }: ConnectError): Refusal {
  const byName = details.map(({ type, debug }) => [type.replace('google.rpc.', ''), debug] as const);
  return refusal(code.toUpperCase(), message, Object.fromEntries(byName));
}

function refusal(code: string | undefined, message: string, details: Details): Refusal {
  expect(details.ErrorInfo, `ErrorInfo of "${message}"`).toMatchObject({ domain: 'millrace' });
  const { reason } = details.ErrorInfo!;
  expect(code, `the code of ${reason}, by docs/errors.md`).toBe(documentedCodes.get(reason));
  return { code: code!, reason, message, fields: details.BadRequest?.fieldViolations.map(({ field }) => field) ?? [] };
}

/** Code by reason, from the table of docs/errors.md. */
export const documentedCodes: ReadonlyMap<string, string> = new Map(
  Array.from(
    readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8').matchAll(/^\| `(\w+)` \| `(\w+)` \|/gm),
    ([, reason, code]) => [reason!, code!] as const,
  ),
);
