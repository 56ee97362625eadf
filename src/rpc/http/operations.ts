import type { Registry } from 'prom-client';
import { pathOf, type NodeResponse } from './rpc-listener.ts';
import type { NodeRequest } from './request-body.ts';

/** Whether the broker serves, and if not, why. */
export interface Readiness {
  readonly ok: boolean;
  readonly reason: string;
}

/** What operators and their tools ask for over plain HTTP: /healthz, /readyz, /metrics. */
export async function serveOperations(
  request: NodeRequest,
  response: NodeResponse,
  ready: () => Readiness,
  metrics: Registry,
): Promise<void> {
  switch (pathOf(request)) {
    case '/healthz':
      answer(response, 200, 'ok\n');
      return;
    case '/readyz': {
      const { ok, reason } = ready();
      answer(response, ok ? 200 : 503, `${ok ? 'ready' : reason}\n`);
      return;
    }
    case '/metrics':
      answer(response, 200, await metrics.metrics(), metrics.contentType);
      return;
    default:
      answer(response, 404, `there is no ${pathOf(request)} here\n`);
  }
}

function answer(response: NodeResponse, status: number, body: string, type = 'text/plain; charset=utf-8'): void {
  (response as { writeHead(status: number, headers: Record<string, string>): unknown }).writeHead(status, {
    'content-type': type,
  });
  response.end(body);
}
