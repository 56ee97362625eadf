import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { Member } from './member.ts';
import { Site } from './site.ts';

/**
 * What each test of a file has: a broker, which is that of all of them, and a topic and a group of
 * its own.
 */
export interface GroupScene {
  readonly site: Site;
  readonly topic: string;
  readonly group: string;
  /** A member that leaves when the test is over. */
  readonly join: (request?: object, address?: string) => Member;
}

/** To be called once in a file. `values`: what is published before each test, by partition. */
export function groupScene(values: readonly (readonly string[])[] = []): GroupScene {
  const members: Member[] = [];
  let tests = 0;
  let site: Site;
  let topic = '';
  let group = '';
  beforeAll(async () => {
    site = await Site.open();
  });
  beforeEach(async () => {
    tests++;
    topic = `orders-${tests}`;
    group = `group-${tests}`;
    await site.createTopic(topic);
    for (const [partition, some] of values.entries()) await site.publish(topic, partition, some);
  });
  afterEach(() => {
    for (const member of members.splice(0)) member.leave();
  });
  afterAll(async () => {
    await site.close();
  });
  return {
    get site() {
      return site;
    },
    get topic() {
      return topic;
    },
    get group() {
      return group;
    },
    join: (request = {}, address = site.broker.grpcAddress) => {
      const member = new Member(address, { group, topics: [topic], ...request });
      members.push(member);
      return member;
    },
  };
}
