import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DescMethod } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LoopWatch, nodeFlagsOfWatch } from '../../../bench/support/loop-watch.ts';
import { limits } from '../../../src/limits/limits.ts';
import { Site } from '../../broker/site.ts';
import { methodsOfEdge } from '../calls.ts';
import { largestRequests, type LargestRequest, type Scene } from './largest-requests.ts';
import { formatOf, forms, MeasuredCalls, type Form, type MeasuredAnswer } from './measured-calls.ts';
import { prepare } from './prepared-broker.ts';

const isFull = process.env['HOSTILE'] === 'full';
const timeout = isFull ? 3_600_000 : 240_000;
/** The CPU of one step of the event loop. */
const stepMsMax = 100;
/** A longer step is measured again: a collection of garbage, or a busy machine, may be in it. */
const triesMax = 3;
/** The default heap has no room for what the full form prepares. */
const heapMib = isFull ? 1_024 : 256;
const socketPath = join(tmpdir(), `millrace-loop-${process.pid}.sock`);
const amounts = isFull
  ? {
      wideTopics: 60,
      members: 1_000,
      smallTopics: 1_000,
      groups: 300,
      textsPerCall: Infinity,
      scenesWithLists: Infinity,
    }
  : { wideTopics: 11, members: 50, smallTopics: 20, groups: 3, textsPerCall: 2, scenesWithLists: 1 };

interface Measured extends MeasuredAnswer {
  readonly cpuMs: number;
  readonly line: string;
}

let site: Site;
let watch: LoopWatch;
let calls: MeasuredCalls;
let scenes: Scene[];

beforeAll(async () => {
  rmSync(socketPath, { force: true });
  site = await Site.open({ heapMib, nodeFlags: nodeFlagsOfWatch(socketPath) });
  watch = await LoopWatch.open(socketPath);
  calls = new MeasuredCalls({ grpc: site.broker.grpcPort, http: site.broker.httpPort });
  scenes = await prepare(site, amounts);
}, timeout);

afterAll(async () => {
  calls.close();
  watch.close();
  await site.close();
});

/** What gRPC has sent last. The same bytes go over Connect, and take long to make. */
let made: { readonly method: DescMethod; readonly requests: readonly LargestRequest[] } | null = null;

function requestsOf(form: Form, method: DescMethod): readonly LargestRequest[] {
  // What one form has created, another cannot create again.
  const isSame = form === 'Connect' && made?.method === method && !method.name.startsWith('Create');
  const requests = isSame ? made!.requests : [...largestRequests(method, formatOf(form), scenes, amounts)];
  made = form === 'gRPC' ? { method, requests } : null;
  return requests;
}

async function measured(form: Form, method: DescMethod): Promise<Measured[]> {
  const results: Measured[] = [];
  for (const { what, body } of requestsOf(form, method)) {
    let cpuMs = Infinity;
    let answer: MeasuredAnswer = { ok: false, bytes: 0, largestBytes: 0, reason: '' };
    for (let tries = 0; tries < triesMax && cpuMs > stepMsMax; tries += 1) {
      const longest = await watch.during(async () => {
        answer = await calls.send(form, method, body);
      });
      cpuMs = Math.min(cpuMs, longest.cpuMs);
    }
    const end = answer.ok ? `answered with ${answer.bytes} bytes` : answer.reason || 'left';
    results.push({ ...answer, cpuMs, line: `${Math.round(cpuMs)} ms: ${what}, ${body.length} bytes, ${end}` });
  }
  return results.sort((a, b) => b.cpuMs - a.cpuMs);
}

const edgeOf = (form: Form) => (form === 'gRPC' ? 'grpc' : 'http');
/** Calls that remove what others ask for come last. */
const isRemoval = ({ name }: DescMethod): boolean => /^(Delete|Cancel|Leave)/.test(name);
const methods = [...new Set(Object.values(methodsOfEdge).flat())];
const all = methods
  .flatMap((method) => forms.map((form) => ({ form, method, name: method.name })))
  .filter(({ form, method }) => methodsOfEdge[edgeOf(form)].includes(method))
  .sort((a, b) => Number(isRemoval(a.method)) - Number(isRemoval(b.method)));

describe('a request at its limits', () => {
  test.each(all)(
    'no request of $name as $form blocks the event loop for more than 100 ms, or gets more than a message',
    { timeout },
    async ({ form, method, name }) => {
      const results = await measured(form, method);
      const shown = isFull ? results.slice(0, 3) : results.slice(0, 1);
      for (const { line } of shown) console.log(`${name} as ${form}, longest step ${line}`);
      expect(results.filter(({ cpuMs }) => cpuMs > stepMsMax).map(({ line }) => line)).toEqual([]);
      expect(Math.max(...results.map(({ largestBytes }) => largestBytes))).toBeLessThanOrEqual(limits.messageBytesMax);
      // Refusals alone would measure little. The first form removes what the others would.
      if (!isRemoval(method) || form === forms[0]) expect(results.some(({ ok }) => ok)).toBe(true);
    },
  );
});
