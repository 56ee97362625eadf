import { toBinary, type DescMethod } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GroupService } from '../../gen/millrace/v1/group_pb.js';
import { limits } from '../../src/limits/limits.ts';
import type { Site } from '../broker/site.ts';
import { methodsOfEdge } from './calls.ts';
import { HostileSite } from './hostile-site.ts';
import { sized } from './sizes.ts';

const timeout = 600_000;
/** With names of 200 characters, the partitions of one member are more than any client takes. */
const topics = Array.from({ length: sized(20, 60) }, (_, n) => `wide-${n}-`.padEnd(200, 'x'));
const memberCount = sized(10, 300);
const group = 'wide';
/** The default heap has no room for 60,000 cursors beside 60,000 partitions. */
const heapMib = sized(256, 512);
let hostile: HostileSite;

beforeAll(async () => {
  hostile = await HostileSite.open({ heapMib });
}, timeout);
afterAll(() => hostile.close(), timeout);

const hasField = ({ fields }: DescMethod['input'], name: string): boolean =>
  fields.some((field) => field.name === name);

/** Calls that answer by pages, and need no membership. */
const paged = methodsOfEdge.grpc.filter(
  ({ input, output }) =>
    hasField(input, 'page_token') && hasField(output, 'next_page_token') && !hasField(input, 'member_id'),
);

function request({ input }: DescMethod, pageToken: string): Record<string, unknown> {
  const known: Readonly<Record<string, unknown>> = { group, topic: topics[0], name: topics[0], page_size: 1_000 };
  const set = input.fields.filter(({ name, fieldKind }) => fieldKind === 'scalar' && known[name] !== undefined);
  return { ...Object.fromEntries(set.map(({ localName, name }) => [localName, known[name]])), pageToken };
}

/** @returns the size of the largest page, and of all of them. */
async function read(site: Site, method: DescMethod): Promise<{ largest: number; sum: number }> {
  let [largest, sum, pageToken] = [0, 0, ''];
  do {
    const answer = await site.call(method, request(method, pageToken));
    const bytes = toBinary(method.output, answer).length;
    largest = Math.max(largest, bytes);
    sum += bytes;
    ({ nextPageToken: pageToken } = answer as unknown as { readonly nextPageToken: string });
  } while (pageToken !== '');
  return { largest, sum };
}

test(
  'a group with more partitions than fit into a message has no answer that its clients refuse',
  { timeout },
  async () => {
    await hostile.attack(async (site) => {
      for (const topic of topics) await site.createTopic(topic, 1_000);
      const join = { group, topics, sessionTimeout: { seconds: 1_800n } };
      for (let n = 0; n < memberCount; n += 1) await site.call(GroupService.method.joinGroup, join);
      const sums = new Map<string, number>();
      for (const method of paged) {
        const { largest, sum } = await read(site, method);
        expect([method.name, largest > limits.messageBytesMax]).toEqual([method.name, false]);
        sums.set(method.name, sum);
      }
      expect(sums.get('GetGroup')).toBeGreaterThan(limits.messageBytesMax);
      for (const topic of topics) await site.deleteTopic(topic);
    });
  },
);
