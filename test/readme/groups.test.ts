import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { DescEnum } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../../bench/support/timing.ts';
import { BlockedOnSchema } from '../../gen/millrace/v1/broker_pb.js';
import { GroupService, RebalanceReasonSchema } from '../../gen/millrace/v1/group_pb.js';
import { Member } from '../broker/member.ts';
import { Site } from '../broker/site.ts';
import { codeBlocks, shellCommands } from '../support/markdown.ts';
import { runToEnd } from './commands.ts';
import { isAsShown, jsonValues } from './shown-output.ts';

/** Does what docs/groups.md shows, to the group that it tells of. */

const document = readFileSync(new URL('../../docs/groups.md', import.meta.url), 'utf8');
const hasCurl = spawnSync('curl', ['--version']).status === 0;

let site: Site;
const members: Member[] = [];

const join = (): Member => {
  members.push(new Member(site.broker.grpcAddress, { group: 'billing', topics: ['orders'] }));
  return members.at(-1)!;
};

beforeAll(async () => {
  site = await Site.open({ logLevel: 'info' });
  await site.createTopic('orders', 6);
  await site.publish('orders', 0, ['a', 'b', 'c']);
  const first = await join().untilReceived(3);
  await first.ack(0, { upToOffset: 0n });
  join();
  await waitFor('the second rebalance', 10_000, 10, async () => {
    const { rebalances } = await site.call(GroupService.method.listRebalances, { group: 'billing' });
    return rebalances.length === 2;
  });
});

afterAll(async () => {
  for (const member of members) member.leave();
  await site.close();
});

/** What the command writes; without curl, what it would have asked for. */
async function outputOf(line: string): Promise<string> {
  const real = line.replaceAll(':8080', `:${site.broker.httpPort}`);
  if (hasCurl || !line.startsWith('curl ')) return (await runToEnd(real)).stdout;
  return (await fetch(/http[^' ]+/.exec(real)![0])).text();
}

const logged = (): unknown[] =>
  site.broker
    .output()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as unknown);

test('what docs/groups.md says to type works, and shows what it says', async () => {
  let output = '';
  let commands = 0;
  let compared = 0;
  for (const { language, text } of codeBlocks(document)) {
    for (const line of language === 'sh' ? shellCommands(text) : []) {
      output = await outputOf(line);
      commands++;
    }
    for (const shown of language === 'json' ? jsonValues(text) : []) {
      const seen = 'msg' in (shown as object) ? logged() : jsonValues(output);
      expect(
        seen.some((value) => isAsShown(shown, value)),
        `${JSON.stringify(shown)}\nis not in\n${JSON.stringify(seen)}`,
      ).toBe(true);
      compared++;
    }
  }
  expect([commands, compared]).toEqual([5, 5]);
}, 60_000);

test.each([
  ['blockedOn', BlockedOnSchema],
  ['reason', RebalanceReasonSchema],
])('the table of every %s has all that the contract has, and no other', (heading, desc: DescEnum) => {
  const [table] = new RegExp(`^\\| ${heading} \\|.*\\n(\\|.*\\n)+`, 'm').exec(document)!;
  const named = Array.from(table.matchAll(/^\| `(\w+)` \|/gm), ([, name]) => name!);
  const prefix = desc.sharedPrefix?.toUpperCase() ?? '';
  const there = desc.values.filter(({ number }) => number !== 0).map(({ name }) => name.slice(prefix.length));
  expect(named.sort()).toEqual(there.sort());
});
