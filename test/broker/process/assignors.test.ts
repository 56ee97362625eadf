import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Assignor, BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { failureOf, grpcDetails } from '../../rpc/grpc-client.ts';
import { Member } from '../member.ts';
import { Site } from '../site.ts';
import { oneLine, Start } from '../start.ts';

const { subscribe } = BrokerService.method;
const { joinGroup, getGroup } = GroupService.method;
const zoneAware = 'examples/assignors/zone-aware.mjs';

describe('a broker with an assignor of the operator', () => {
  let site: Site;
  const members: Member[] = [];
  beforeAll(async () => {
    site = await Site.open({ flags: ['--assignor-modules', zoneAware] });
    await site.createTopic('orders', 6);
  });
  afterAll(async () => {
    for (const member of members) member.leave();
    await site.close();
  });

  function member(group: string, clientId: string, request: object): Member {
    const made = new Member(site.broker.grpcAddress, { group, topics: ['orders'], clientId, ...request });
    members.push(made);
    return made;
  }

  test('a member that names the operator’s assignor gets its partitions from it', async () => {
    const byName = { assignorName: 'zone-aware' };
    const a = await member('billing', 'eu-1.a', byName).untilPartitions(0, 1, 2, 3, 4, 5);
    const b = await member('billing', 'eu-2.a', byName).untilPartitions(3, 4, 5);
    const c = await member('billing', 'eu-2.b', byName).untilPartitions(5);
    await b.untilPartitions(3, 4);
    c.leave();
    // Sticky would have given 2, 2 and 2, and so taken one from the only member of eu-1.
    await b.untilPartitions(3, 4, 5);
    expect(a.partitions).toEqual([0, 1, 2]);
    const { group } = await site.call(getGroup, { group: 'billing' });
    expect(group).toMatchObject({ assignorName: 'zone-aware', assignor: Assignor.UNSPECIFIED });
  });

  test.each([
    [{ assignor: Assignor.COOPERATIVE_STICKY }, 'cooperative_sticky', Assignor.COOPERATIVE_STICKY],
    [{ assignorName: 'cooperative_sticky' }, 'cooperative_sticky', Assignor.COOPERATIVE_STICKY],
    [{ assignorName: 'range' }, 'range', Assignor.RANGE],
    [{ assignorName: 'zone-aware' }, 'zone-aware', Assignor.UNSPECIFIED],
    [{}, 'sticky', Assignor.STICKY],
  ])('a group shows the assignor that JoinGroup asked for: %j', async (asked, assignorName, assignor) => {
    const group = `classic-${JSON.stringify(asked).replaceAll(/[^a-z0-9]/gi, '-')}`;
    await site.call(joinGroup, { group, topics: ['orders'], ...asked });
    expect((await site.call(getGroup, { group })).group).toMatchObject({ assignorName, assignor });
  });

  test.each([
    ['Subscribe', subscribe],
    ['JoinGroup', joinGroup],
  ] as const)('%s rejects an unknown assignor, names the known ones, and makes no group', async (_, method) => {
    for (const assignorName of ['zone_aware', 'constructor', 'RANGE']) {
      const refusal = await site.refusal(method, { group: 'stillborn', topics: ['orders'], assignorName });
      expect(refusal.reason).toBe('ASSIGNOR_UNKNOWN');
      expect(refusal.message).toContain(`"${assignorName}"`);
    }
    const asked = { group: 'stillborn', topics: ['orders'], assignorName: 'x'.repeat(200) };
    const details = grpcDetails(await failureOf(site.call(joinGroup, asked)));
    expect(details['ErrorInfo']).toMatchObject({
      metadata: { known: 'range, round_robin, sticky, cooperative_sticky, zone-aware' },
    });
    expect((await site.refusal(getGroup, { group: 'stillborn' })).reason).toBe('GROUP_NOT_FOUND');
  });

  test('a request with both an assignor rule and an assignor name is rejected as an invalid field', async () => {
    const both = { group: 'stillborn', topics: ['orders'], assignor: Assignor.STICKY, assignorName: 'zone-aware' };
    for (const method of [subscribe, joinGroup]) {
      expect(await site.refusal(method, both)).toMatchObject({ reason: 'INVALID_FIELD', fields: ['assignor_name'] });
    }
  });
});

describe('a module that cannot be used stops the start with one line that names it', () => {
  let directory = '';
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-assignors-'));
  });
  afterAll(async () => {
    await rm(directory, { recursive: true });
  });

  const assign = 'export const assign = () => [];';
  test.concurrent.each([
    ['broken', 'export const', 'it cannot be loaded: '],
    ['failing', 'throw new Error("no\\nzones")', 'it cannot be loaded: no'],
    ['nameless', assign, 'it exports no name, which is a string'],
    ['misnamed', `export const name = "zone aware"; ${assign}`, 'its name has characters other than'],
    ['taken', `export const name = "sticky"; ${assign}`, 'its name "sticky" is taken'],
    ['twin', `export const name = "zone-aware"; ${assign}`, 'its name "zone-aware" is taken'],
    ['idle', 'export const name = "idle"; export const assign = [];', 'it exports no assign, which is a function'],
    [
      'waiting',
      'export const name = "w"; export async function assign() {}',
      'its assign must be an ordinary function',
    ],
  ])('the start ends with one line that names the %s module', async (name, source, says) => {
    const path = join(directory, `${name}.mjs`);
    await writeFile(path, source);
    const line = await oneLine(new Start(['--assignor-modules', `${zoneAware},${path}`]), 1);
    expect(line).toContain(`--assignor-modules: ${path}: ${says}`);
  });

  test('the start ends with one line that names a module file that does not exist', async () => {
    const line = await oneLine(new Start(['--assignor-modules', 'nowhere.mjs']), 1);
    expect(line).toMatch(/^--assignor-modules: nowhere\.mjs: it cannot be loaded: Cannot find module .*nowhere\.mjs/);
  });
});
