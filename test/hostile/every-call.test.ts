import { connect, type ClientHttp2Session } from 'node:http2';
import type { DescMethod } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { waitFor } from '../../bench/support/timing.ts';
import { kinds, type KindName } from '../../src/account/kinds.ts';
import { limits } from '../../src/limits/limits.ts';
import { answerOf, framed, openCall } from '../rpc/raw-call.ts';
import { methodsOfEdge, type EdgeName } from './calls.ts';
import { EdgeSite } from './edge-site.ts';

const timeout = 240_000;
const callsEach = 8;
const pieces = 3_000;
/** Calls that the honest publisher and the question for the metrics may have under way. */
const ownCallsMax = 3;
let site: EdgeSite;

beforeAll(async () => {
  site = await EdgeSite.open();
}, timeout);
afterAll(() => site.close());

/** Kinds of which nothing is left when the calls that made it are over. */
const passing = (Object.keys(kinds) as KindName[]).filter(
  (name) => kinds[name].pool === 'passing' || ['bodies', 'answers', 'unsent'].includes(name),
);

async function stillCounted(): Promise<string[]> {
  const text = await (await fetch(`${site.broker.httpUrl}/metrics`)).text();
  const gauges = text.matchAll(/^millrace_account_bytes\{kind="(\w+)"\} (\d+)/gm);
  const bytes = new Map(Array.from(gauges, ([, kind = '', held]) => [kind, Number(held)] as const));
  expect([...bytes.keys()]).toEqual(expect.arrayContaining(passing));
  const most = (name: KindName): number => (name === 'streams' ? ownCallsMax * limits.openCallBytes : 0);
  return passing.filter((name) => bytes.get(name)! > most(name));
}

/** Runs the attack, and expects that the broker counts nothing of it any more. */
async function leavesNothing(attack: () => Promise<void>): Promise<void> {
  await site.survives(attack);
  let left: string[] = [];
  const isEmpty = async (): Promise<boolean> => (left = await stillCounted()).length === 0;
  await waitFor('the account to be empty', 60_000, 50, isEmpty).catch(() => undefined);
  expect(left).toEqual([]);
}

function session(edge: EdgeName, initialWindowSize = 65_535): ClientHttp2Session {
  const port = edge === 'grpc' ? site.broker.grpcPort : site.broker.httpPort;
  const opened = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize } });
  opened.on('error', () => undefined);
  onTestFinished(() => {
    opened.destroy();
  });
  return opened;
}

/** The broker has read what was sent before. */
const taken = (from: ClientHttp2Session): Promise<void> =>
  new Promise((resolve) => {
    from.ping(() => {
      resolve();
    });
  });

const pathOf = ({ parent, name }: DescMethod): string => `/${parent.typeName}/${name}`;
const callsOf = (from: ClientHttp2Session, method: DescMethod) =>
  Array.from({ length: callsEach }, () => openCall(from, pathOf(method)));

describe.each(['grpc', 'http'] as const)('every call over %s', (edge) => {
  test('requests that never end leave nothing behind when their clients go', { timeout }, async () => {
    await leavesNothing(async () => {
      const begun = framed(Buffer.alloc(4_000_000)).subarray(0, 60_000);
      for (const method of methodsOfEdge[edge]) {
        const from = session(edge);
        for (const call of callsOf(from, method)) call.resume().write(begun);
        await taken(from);
        from.destroy();
      }
    });
  });

  test('requests in thousands of pieces of one byte are refused', { timeout }, async () => {
    await leavesNothing(async () => {
      for (const method of methodsOfEdge[edge].filter(({ methodKind }) => methodKind === 'unary')) {
        const from = session(edge);
        const call = openCall(from, pathOf(method));
        const answered = answerOf(call);
        call.write(framed(Buffer.alloc(1_000_000)).subarray(0, 5));
        for (let piece = 0; piece < pieces; piece += 1) call.write(Buffer.alloc(1));
        call.end();
        const { reason } = await answered;
        expect([method.name, reason]).toEqual([method.name, 'MALFORMED_REQUEST']);
        from.destroy();
      }
    });
  });

  test('answers that nobody reads leave nothing behind when their clients go', { timeout }, async () => {
    await leavesNothing(async () => {
      for (const method of methodsOfEdge[edge]) {
        const from = session(edge, 0);
        for (const call of callsOf(from, method)) call.pause().end(framed(Buffer.alloc(0)));
        await taken(from);
        from.destroy();
      }
    });
  });
});
