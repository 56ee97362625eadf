import { afterAll, beforeAll, expect, test } from 'vitest';
import { subscribeOverConnect } from '../connect-stream.ts';
import { Member } from '../member.ts';
import { Relay } from '../relay.ts';
import { Site } from '../site.ts';

let site: Site;
let relays: Relay[] = [];
let members: Member[] = [];
beforeAll(async () => {
  site = await Site.open();
  relays = await Promise.all([Relay.open(site.broker.grpcPort), Relay.open(site.broker.httpPort)]);
  await site.createTopic('orders');
  await site.publish('orders', 0, ['a0', 'a1', 'a2']);
  await site.publish('orders', 1, ['b0', 'b1', 'b2']);
});
afterAll(async () => {
  for (const member of members) member.leave();
  await Promise.all(relays.map((relay) => relay.close()));
  await site.close();
});

test(
  'pings find a client whose machine is gone, on both edges, and its records are delivered again',
  { timeout: 60_000 },
  async () => {
    const [toGrpc, toHttp] = relays as [Relay, Relay];
    const request = { group: 'connect', topics: ['orders'], start: { earliest: {} } };
    members = [new Member(toGrpc.address, { group: 'grpc', topics: ['orders'] })];
    await Promise.all([members[0]!.untilReceived(6), subscribeOverConnect(toHttp.address, request)]);
    for (const relay of relays) relay.silence();
    const left = ['grpc', 'connect'].map((group) => new Member(site.broker.grpcAddress, { group, topics: ['orders'] }));
    members.push(...left);
    // A ping each 10 s, and 10 s for its answer.
    await Promise.all(left.map((member) => member.untilReceived(6, 25_000)));
    for (const member of left) {
      expect(member.received.map(({ attempt }) => attempt)).toEqual([2, 2, 2, 2, 2, 2]);
      expect([member.of(0), member.of(1)]).toEqual([
        [0, 1, 2],
        [0, 1, 2],
      ]);
    }
    await site.expectAllThere();
  },
);
