import { readFileSync } from 'node:fs';
import type { ClientHttp2Stream } from 'node:http2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BlockedOn, BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { subscribeOverConnect } from '../connect-stream.ts';
import { Member } from '../member.ts';
import { Site } from '../site.ts';

/** 16 KiB records; 94 MiB of them in each run, many times what the broker may keep. */
const mebibyte = 1_048_576;
const records = Array.from({ length: 100 }, () => ({ value: Buffer.alloc(16_384, 'x') }));
const batchesOfOneRun = 60;
const recordsOfOneRun = batchesOfOneRun * records.length;

/**
 * What 12 readers over gRPC that never read may cost, at the defaults: each holds its unsent bytes
 * (1 MiB) and the batch that went over them; measured: 40 MiB. Without the limit each would hold
 * what is published meanwhile, 94 MiB. Over Connect each holds its last batch in JSON too, whose
 * making leaves 20 to 30 MiB of garbage behind.
 */
const overGrpc = 12;
const overConnect = 2;
const growthBytesMax = 80 * mebibyte;
const brokerBytesMax = 512 * mebibyte;

let site: Site;
let members: Member[] = [];
const streams: ClientHttp2Stream[] = [];
beforeAll(async () => {
  site = await Site.open({ flags: ['--tail-cache-bytes-max', String(8 * mebibyte)] });
  await site.createTopic('orders', 1);
  await site.call(BrokerService.method.publish, { topic: 'orders', records });
});
afterAll(async () => {
  for (const member of members) member.leave();
  for (const stream of streams) stream.destroy();
  await site.close();
});

/** The most memory that the broker ever had. */
function peakBytes(): number {
  const text = readFileSync(`/proc/${site.broker.pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(text)![1]) * 1_024;
}

/** Publishes and reads with one group. @returns how long that took, in milliseconds. */
async function run(group: string): Promise<number> {
  const start = { position: { case: 'latest' as const, value: {} } };
  const reader = new Member(site.broker.grpcAddress, { group, topics: ['orders'], start, autoAck: true });
  await reader.untilPartitions(0);
  const startedMs = performance.now();
  const publishers = Array.from({ length: 4 }, async () => {
    for (let n = 0; n < batchesOfOneRun / 4; n++) {
      await site.call(BrokerService.method.publish, { topic: 'orders', records });
    }
  });
  await Promise.all(publishers);
  await reader.untilReceived(recordsOfOneRun, 30_000);
  reader.leave();
  return performance.now() - startedMs;
}

/** Opens streams that auto-ack, so that no credit holds anything back, and stops reading them. */
async function stallOverGrpc(): Promise<void> {
  const request = { topics: ['orders'], autoAck: true };
  members = Array.from(
    { length: overGrpc },
    (_, n) => new Member(site.broker.grpcAddress, { group: `stalled-grpc-${n}`, ...request }),
  );
  await Promise.all(members.map((member) => member.untilReceived(1)));
  for (const member of members) member.stopReading();
}

async function stallOverConnect(): Promise<void> {
  const request = { topics: ['orders'], autoAck: true, start: { earliest: {} } };
  for (let n = 0; n < overConnect; n++) {
    const address = `127.0.0.1:${site.broker.httpPort}`;
    streams.push(await subscribeOverConnect(address, { group: `stalled-connect-${n}`, ...request }));
    streams[n]!.pause();
  }
}

test(
  'readers that never read take bounded memory, do not slow other members, and lose no record',
  { timeout: 120_000 },
  async () => {
    const aloneMs = Math.min(await run('alone-1'), await run('alone-2'));
    const aloneBytes = peakBytes();
    await stallOverGrpc();
    const besideGrpcMs = await run('beside-grpc');
    expect(peakBytes() - aloneBytes).toBeLessThan(growthBytesMax);
    await stallOverConnect();
    const besideBothMs = await run('beside-both');
    expect(peakBytes()).toBeLessThan(brokerBytesMax);
    expect(Math.min(besideGrpcMs, besideBothMs) / aloneMs).toBeLessThan(3);
    for (const group of ['stalled-grpc-0', 'stalled-connect-0']) {
      const described = await site.call(GroupService.method.getGroup, { group });
      expect(described.members.map(({ blockedOn }) => blockedOn)).toEqual([BlockedOn.SLOW_READER]);
      expect(Number(described.partitions[0]!.lag)).toBeGreaterThan(recordsOfOneRun / 2);
    }
    const [reader] = members;
    reader!.readOn();
    const published = 100 + 4 * recordsOfOneRun;
    await reader!.untilReceived(published, 30_000);
    expect(reader!.of(0)).toEqual(Array.from({ length: published }, (_, offset) => offset));
  },
);
