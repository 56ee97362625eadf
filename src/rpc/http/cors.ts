import { cors } from '@connectrpc/connect';
import type { Logger } from 'pino';
import { printable } from '../../errors/printable.ts';
import type { Clock } from '../../time/clock.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import type { NodeResponse } from '../requests/universal-response.ts';
import { pathOf } from '../requests/rpc-listener.ts';
import { reasonTrailer } from '../edge/errors.ts';

/** The headers of an answer that a page may read. */
const exposedHeaders = [...cors.exposedHeaders, reasonTrailer].join(', ');
/** How long a browser may remember a preflight that was allowed. */
const preflightSeconds = 7_200;
/** The log names a rejected origin once in this time, and this many of them. */
const refusalsMs = 60_000;
const refusedOriginsMax = 10;
/** How much of an origin is logged. */
const originCharsMax = 200;

/**
 * Decides which web pages may call the broker: those whose origins are in `--cors-origins`. A
 * browser asks by a preflight first, and does not let a page of another origin read the answer.
 */
export class Cors {
  readonly #origins: ReadonlySet<string>;
  readonly #clock: Clock;
  readonly #log: Pick<Logger, 'warn'>;
  readonly #refused = new Set<string>();
  #refusedSinceMs = 0;

  /** @param origins `*` among them allows every page. */
  constructor(origins: readonly string[], clock: Clock, log: Pick<Logger, 'warn'>) {
    this.#origins = new Set(origins);
    this.#clock = clock;
    this.#log = log;
  }

  /** @returns whether the request was a preflight, which is then answered. */
  answered(request: NodeRequest, response: NodeResponse): boolean {
    const { origin } = request.headers;
    const preflight = request.method === 'OPTIONS' && request.headers['access-control-request-method'] !== undefined;
    if (this.#origins.size > 0) response.setHeader('vary', 'Origin');
    if (origin === undefined) return false;
    const allowed = this.#allowed(origin);
    if (allowed !== null) response.setHeader('access-control-allow-origin', allowed);
    if (preflight) this.#answer(request, response, origin, allowed !== null);
    else if (allowed !== null) response.setHeader('access-control-expose-headers', exposedHeaders);
    return preflight;
  }

  #allowed(origin: string): string | null {
    if (this.#origins.has('*')) return '*';
    return this.#origins.has(origin) ? origin : null;
  }

  #answer(request: NodeRequest, response: NodeResponse, origin: string, allowed: boolean): void {
    if (allowed) {
      response.statusCode = 204;
      response.setHeader('access-control-allow-methods', cors.allowedMethods.join(', '));
      response.setHeader('access-control-allow-headers', cors.allowedHeaders.join(', '));
      response.setHeader('access-control-max-age', String(preflightSeconds));
      response.end();
      return;
    }
    this.#report(origin, pathOf(request));
    response.statusCode = 403;
    response.setHeader('content-type', 'text/plain; charset=utf-8');
    response.end('pages of this origin may not call the broker: see --cors-origins\n');
  }

  #report(origin: string, path: string): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#refusedSinceMs >= refusalsMs) {
      this.#refused.clear();
      this.#refusedSinceMs = nowMs;
    }
    if (this.#refused.has(origin) || this.#refused.size >= refusedOriginsMax) return;
    this.#refused.add(origin);
    this.#log.warn(
      { origin: printable(origin.slice(0, originCharsMax)), path: printable(path.slice(0, originCharsMax)) },
      'a web page may not call this broker: its origin is not in --cors-origins',
    );
  }
}
