import { create, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GroupService, JoinGroupRequestSchema } from '../../gen/millrace/v1/group_pb.js';
import { methodPath } from '../../bench/client/service-client.ts';
import { HostileSite } from './hostile-site.ts';

const timeout = 240_000;
let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

/** Field 2000, which no request has. */
const padding = Buffer.concat([Buffer.from([0x82, 0x7d, 0x80, 0x92, 0xf4, 0x01]), Buffer.alloc(4_000_000)]);

test('members with one byte of metadata do not keep the 4 MB of their joins', { timeout }, async () => {
  await hostile.attack(async ({ broker }) => {
    for (let n = 0; n < 150; n++) {
      const fields = { group: `group-${n}`, topics: ['orders'], metadata: Buffer.from('m') };
      const join = toBinary(JoinGroupRequestSchema, create(JoinGroupRequestSchema, fields));
      const response = await fetch(broker.httpUrl + methodPath(GroupService.method.joinGroup), {
        method: 'POST',
        headers: { 'content-type': 'application/proto' },
        body: Buffer.concat([join, padding]),
      });
      expect(response.status).toBe(200);
      await response.arrayBuffer();
    }
  });
});
