import { expect, test } from 'vitest';
import { TopicLooks } from '../../src/lifecycle/topic-looks.ts';

const minute = 60_000;

function looked(looks: TopicLooks, topicId: number, nowMs: number, { tookMs = 0, dueInMs = Infinity } = {}): void {
  looks.begin(topicId);
  looks.ended(topicId, { tookMs, nowMs, dueInMs, hasSealed: true });
}

test('after a start every topic with sealed segments is due at once, and no other', () => {
  const looks = new TopicLooks();
  looks.add(1, true, 0);
  looks.add(2, false, 0);
  looks.add(3, true, 0);
  expect(looks.due(0)).toEqual([1, 3]);
});

test('a topic that changes all the time is looked at every 15 seconds, and less often if a look takes long', () => {
  const looks = new TopicLooks();
  looks.add(1, true, 0);
  looked(looks, 1, 0);
  looks.changed(1, 1);
  expect([looks.due(14_999), looks.due(15_000)]).toEqual([[], [1]]);
  looked(looks, 1, 15_000, { tookMs: 15_000 });
  looks.changed(1, 15_001);
  expect([looks.due(314_999), looks.due(315_000)]).toEqual([[], [1]]);
});

test('a change during a look makes the topic due again', () => {
  const looks = new TopicLooks();
  looks.add(1, true, 0);
  looks.begin(1);
  looks.changed(1, 5);
  expect(looks.due(20_000)).toEqual([]);
  looks.ended(1, { tookMs: 10, nowMs: 10, dueInMs: Infinity, hasSealed: true });
  expect(looks.due(15_010)).toEqual([1]);
});

test('what time alone lets go is looked at when its time has come', () => {
  const looks = new TopicLooks();
  looks.add(1, true, 0);
  looked(looks, 1, 0, { dueInMs: 2 * minute });
  expect([looks.due(2 * minute - 1), looks.due(2 * minute)]).toEqual([[], [1]]);
});

test('ten thousand idle topics are looked at one at a time, the longest unseen first', () => {
  const looks = new TopicLooks();
  for (let topicId = 1; topicId <= 10_000; topicId += 1) {
    looks.add(topicId, true, 0);
    looked(looks, topicId, topicId);
  }
  expect(looks.due(9 * minute)).toEqual([]);
  expect(looks.due(11 * minute)).toEqual([1]);
  looked(looks, 1, 11 * minute);
  expect(looks.due(11 * minute + 5_000)).toEqual([2]);
});

test('the topic that has waited for longest comes first, so that no busy topic keeps it waiting', () => {
  const looks = new TopicLooks();
  for (const topicId of [1, 2, 3]) {
    looks.add(topicId, true, 0);
    looked(looks, topicId, 0);
  }
  looks.changed(3, 100);
  looks.changed(1, 200);
  looks.changed(2, 150);
  expect(looks.due(minute)).toEqual([3, 2, 1]);
});

test('a look that failed is repeated after a rest, although nothing has changed', () => {
  const looks = new TopicLooks();
  looks.add(1, true, 0);
  looks.begin(1);
  looks.failed(1, 1_000);
  expect([looks.due(15_999), looks.due(16_000)]).toEqual([[], [1]]);
});

test('a topic with more to drop is due without a rest', () => {
  const looks = new TopicLooks();
  looks.add(1, true, 0);
  looked(looks, 1, 0, { tookMs: 1_000 });
  looks.soon(1, 0);
  expect(looks.due(0)).toEqual([1]);
});

test('a removed topic is not looked at', () => {
  const looks = new TopicLooks();
  looks.add(1, true, 0);
  looks.remove(1);
  looks.changed(1, 0);
  expect(looks.due(minute)).toEqual([]);
});
