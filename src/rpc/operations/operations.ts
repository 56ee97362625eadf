import type { Registry } from 'prom-client';
import type { DetailRequest } from '../../metrics/detail.ts';
import type { Family } from '../../metrics/family.ts';
import { textOf } from '../../metrics/text.ts';
import type { CallCounts } from '../edge/call-counts.ts';
import { printable } from '../../errors/printable.ts';
import type { ReportBug } from '../edge/errors.ts';
import { Rejection } from '../../errors/rejections/rejection.ts';
import { limits } from '../../limits/limits.ts';
import type { Handlers } from '../handlers/handlers.ts';
import { notAllowed, refused, text, type Answer } from './answers.ts';
import { consumerGroupsAnswer, consumerGroupsPath } from './consumer-groups.ts';
import { detailRequest } from './detail-request.ts';
import { readyzAnswer, type Readiness } from './readiness.ts';
import { refusePlainly } from '../requests/plain-refusal.ts';
import type { RequestAnswer } from '../requests/request-facts.ts';
import { pathOf } from '../requests/rpc-listener.ts';
import { isClosed, type NodeResponse } from '../requests/universal-response.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import type { SparePage } from './spare-page.ts';

const metricsPath = '/metrics';
const detailPath = '/metrics/detail';

/** The numbers of the broker for /metrics, beside those of the registry. */
export interface Numbers {
  /** Resolves soon, if need be without what the database does not answer in time. */
  families(): Promise<readonly Family[]>;
  /** The series of single groups and topics; nothing while this process stands by. */
  detail(request: DetailRequest): Promise<readonly Family[]>;
}

export interface Operations {
  readonly handlers: Handlers;
  readonly ready: () => Readiness;
  readonly metrics: Registry;
  /** /metrics while there is no room for answers. */
  readonly spareMetrics: SparePage;
  readonly numbers: Numbers;
  readonly calls: CallCounts;
  readonly reportBug: ReportBug;
}

/**
 * The paths of operators and their tools over plain HTTP: /healthz, /readyz, /metrics,
 * /metrics/detail, /consumer-groups.
 */
export async function serveOperations(
  request: NodeRequest,
  response: NodeResponse,
  operations: Operations,
  room: RequestAnswer,
): Promise<void> {
  let answer: Answer;
  try {
    answer = await countedAnswer(request, operations, room).catch((error: unknown) => {
      return spareAnswer(error, request, response, operations);
    });
  } catch (error) {
    if (!(error instanceof Rejection)) throw error;
    refusePlainly(response, error, operations.reportBug);
    return;
  }
  const { status, body, headers } = answer;
  (response as { writeHead(status: number, headers: Answer['headers']): unknown }).writeHead(status, headers);
  response.end(body);
}

/**
 * The answer, with its bytes in the account until the client has read them. Whether the broker
 * lives and serves is always answered. @throws Rejection BROKER_BUSY, CONNECTION_BUSY
 */
async function countedAnswer(request: NodeRequest, operations: Operations, room: RequestAnswer): Promise<Answer> {
  const path = pathOf(request);
  if (path !== '/healthz' && path !== '/readyz' && room.refusal !== null) throw room.refusal;
  if (path.startsWith(consumerGroupsPath) || path === detailPath) await room.reserve(limits.messageBytesMax);
  const answer = await answerTo(request, operations).finally(room.worked.bind(room));
  const bytes = Buffer.byteLength(answer.body);
  room.demand(bytes);
  room.sending(bytes);
  return answer;
}

/**
 * A broker that others keep full is the one whose metrics are needed. What its own connection does
 * not read is no reason for a spare answer. @throws what `countedAnswer` has thrown
 */
async function spareAnswer(
  why: unknown,
  request: NodeRequest,
  response: NodeResponse,
  { metrics, spareMetrics }: Operations,
): Promise<Answer> {
  const isFull = why instanceof Rejection && why.reason === 'BROKER_BUSY';
  if (!isFull || pathOf(request) !== metricsPath || isClosed(response)) throw why;
  return text(200, await spareMetrics.answer(response), metrics.contentType);
}

async function answerTo(request: NodeRequest, operations: Operations): Promise<Answer> {
  const { handlers, ready, metrics, reportBug } = operations;
  switch (pathOf(request)) {
    case '/healthz':
      return text(200, 'ok\n');
    case '/readyz': {
      const [status, body] = readyzAnswer(request.url ?? '', ready());
      return text(status, `${body}\n`);
    }
    case metricsPath:
      return text(200, await metricsText(operations), metrics.contentType);
    case detailPath:
      return detailAnswer(request, operations);
    default: {
      const answer = await consumerGroupsAnswer(request, handlers, reportBug);
      return answer ?? text(404, `there is no ${printable(pathOf(request))} here\n`);
    }
  }
}

/** All that /metrics has. */
export async function metricsText({
  metrics,
  numbers,
  calls,
}: Pick<Operations, 'metrics' | 'numbers' | 'calls'>): Promise<string> {
  const families = [...calls.families(), ...(await numbers.families())];
  return `${await metrics.metrics()}\n${textOf(families)}`;
}

async function detailAnswer(request: NodeRequest, { metrics, numbers, reportBug }: Operations): Promise<Answer> {
  if (request.method !== 'GET' && request.method !== 'HEAD') return notAllowed(pathOf(request));
  try {
    return text(200, textOf(await numbers.detail(detailRequest(request))), metrics.contentType);
  } catch (error) {
    return refused(error, reportBug);
  }
}
