import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { claim, CleanerScene, hour, settings } from './scene.ts';

const restMs = 15_000;

let scene: CleanerScene;
beforeEach(() => {
  scene = new CleanerScene();
});
afterEach(() => scene.cleaner.stop());

const lost = (): never => {
  throw new Fault('OUTCOME_UNKNOWN', 'cut');
};

test('complete segments go after their retention, and memory follows before the tables do', async () => {
  const topic = scene.topic(1, 3);
  topic.claims = [claim(3)];
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect([scene.plans[0]?.complete, scene.dropped(1), scene.droppedCalls]).toEqual([[1, 2], [], 0]);
  topic.nowMs = hour;
  await scene.clock.advance(hour);
  expect(scene.dropped(1)).toEqual(['1 COMPLETED', '2 COMPLETED']);
  expect(scene.trims).toEqual([{ topicId: 1, starts: topic.starts(), reason: 'RETENTION' }]);
  expect(scene.droppedCalls).toBe(1);
  expect(scene.cleaner.stats().segmentDrops.COMPLETED).toBe(2);
});

test('what time alone lets go is dropped when its time has come, without any change', async () => {
  const topic = scene.topic(1, 2);
  topic.nowMs = hour - 60_000;
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect(scene.dropped(1)).toEqual([]);
  topic.nowMs = hour;
  await scene.clock.advance(59_000);
  expect(scene.looks).toEqual([1]);
  await scene.clock.advance(6_000);
  expect(scene.dropped(1)).toEqual(['1 ZERO_SUBSCRIPTIONS']);
});

test('an idle topic is not looked at again, and an idle broker asks for nothing', async () => {
  scene.topic(1, 1);
  scene.topic(2, 2).settings = { ...settings, afterCompletionMs: null };
  scene.cleaner.start();
  await scene.clock.advance(9 * 60_000);
  expect([scene.looks, scene.saved.length]).toEqual([[2], 1]);
});

test('a plan whose facts have changed is made anew, and not forced', async () => {
  const topic = scene.topic(1, 2);
  topic.nowMs = hour;
  scene.onPlan = () => {
    if (scene.plans.length > 1) return null;
    topic.claims = [claim(1)];
    return 'CHANGED';
  };
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect([scene.looks.length, scene.plans.length, scene.trims]).toEqual([2, 1, []]);
  expect(topic.first).toBe(1);
});

test('a plan that other work blocks waits for the next look', async () => {
  const topic = scene.topic(1, 2);
  topic.nowMs = hour;
  scene.onPlan = () => (scene.plans.length > 1 ? null : 'BUSY');
  scene.cleaner.start();
  await scene.clock.advance(restMs - 1);
  expect([scene.plans.length, scene.trims.length]).toEqual([1, 0]);
  await scene.clock.advance(5_001);
  expect(scene.trims.length).toBe(1);
});

test('memory follows a plan whose answer was lost, once the database says what happened', async () => {
  const topic = scene.topic(1, 3);
  topic.nowMs = hour;
  scene.afterPlan = lost;
  let tries = 0;
  scene.onStarts = () => {
    if (++tries < 3) throw new Fault('DATABASE_UNAVAILABLE', 'down');
  };
  scene.cleaner.start();
  await scene.clock.advance(10_000);
  expect(tries).toBe(3);
  expect(scene.trims).toEqual([
    { topicId: 1, starts: [{ partition: 0, lane: 0, startOffset: 20 }], reason: 'RETENTION' },
  ]);
});

test('nothing in memory moves after a plan that failed', async () => {
  scene.topic(1, 3).nowMs = hour;
  scene.onPlan = () => {
    throw new Fault('DATABASE_UNAVAILABLE', 'down');
  };
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect(scene.trims).toEqual([]);
  scene.onPlan = () => null;
  await scene.clock.advance(restMs + 5_000);
  expect(scene.trims.length).toBe(1);
});

test('one topic that cannot be cleaned does not keep the space of the others', async () => {
  for (const topicId of [1, 2, 3, 4, 5, 6, 7, 8]) scene.topic(topicId, 2).nowMs = hour;
  scene.onFacts = (topicId) => (topicId <= 4 ? new Promise(() => undefined) : undefined);
  scene.cleaner.start();
  await scene.clock.advance(29_999);
  expect(scene.looks).toEqual([1, 2, 3, 4]);
  await scene.clock.advance(5_001);
  expect(scene.looks).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  for (const topicId of [5, 6, 7, 8]) expect(scene.dropped(topicId)).toEqual(['1 ZERO_SUBSCRIPTIONS']);
  scene = new CleanerScene();
});

test('at most four topics are looked at side by side, and at most a hundred in five seconds', async () => {
  let running = 0;
  let most = 0;
  for (let topicId = 1; topicId <= 250; topicId += 1) scene.topic(topicId, 2);
  scene.onFacts = async () => {
    most = Math.max(most, ++running);
    await Promise.resolve();
    running -= 1;
  };
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect([scene.looks.length, most]).toEqual([100, 4]);
  await scene.clock.advance(5_000);
  expect(scene.looks.length).toBe(200);
  await scene.clock.advance(5_000);
  expect(new Set(scene.looks).size).toBe(250);
});

test('a cap drops what is owed only after a fold, and by what the fold has found', async () => {
  const topic = scene.topic(1, 3);
  topic.settings = { ...settings, maxBytes: 1 };
  topic.claims = [claim(1)];
  scene.onFold = () => {
    topic.claims = [claim(3)];
    topic.completed.set(1, 0).set(2, 0);
    topic.nowMs = hour;
  };
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect([scene.folds, scene.dropped(1)]).toEqual([1, ['1 COMPLETED', '2 COMPLETED']]);
});

test('a cap passes the subscriptions that are owed what it drops, while nothing of theirs is MOVING', async () => {
  const topic = scene.topic(1, 3);
  topic.settings = { ...settings, maxBytes: 120 };
  topic.claims = [
    claim(1),
    claim(2, { subscriptionId: 2 }),
    claim(1, { subscriptionId: 3, state: 'DEAD', diedAtMs: 0 }),
  ];
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect(scene.dropped(1)).toEqual(['1 MAX_BYTES']);
  expect(scene.trimmed).toEqual([[10, 1, 3]]);
  expect(scene.trims[0]?.reason).toBe('MAX_BYTES');
});

test('a cap waits for the next look when the fold fails, and what is complete goes all the same', async () => {
  const topic = scene.topic(1, 4);
  topic.settings = { ...settings, maxBytes: 1 };
  topic.claims = [claim(2)];
  topic.completed.set(1, 0);
  topic.nowMs = hour;
  scene.onFold = () => {
    throw new Fault('DATABASE_UNAVAILABLE', 'down');
  };
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect(scene.dropped(1)).toEqual(['1 COMPLETED']);
  scene.onFold = () => undefined;
  await scene.clock.advance(35_000);
  expect(scene.dropped(1)).toEqual(['1 COMPLETED', '2 MAX_BYTES', '3 MAX_BYTES']);
});

test('on a full disk a cap frees space although nothing can be folded', async () => {
  const topic = scene.topic(1, 2);
  topic.settings = { ...settings, maxBytes: 1 };
  topic.claims = [claim(1)];
  scene.isDiskFull = true;
  scene.onFold = () => {
    throw new Fault('DATABASE_UNAVAILABLE', 'full');
  };
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect(scene.dropped(1)).toEqual(['1 MAX_BYTES']);
});

test('caps of many topics share a fold, which comes every 30 seconds at most', async () => {
  for (const topicId of [1, 2, 3]) {
    const topic = scene.topic(topicId, 2);
    topic.settings = { ...settings, maxBytes: 1 };
    topic.claims = [claim(1)];
  }
  scene.cleaner.start();
  await scene.clock.advance(1);
  expect(scene.folds).toBe(1);
  for (const topicId of [1, 2, 3]) expect(scene.dropped(topicId)).toEqual(['1 MAX_BYTES']);
});

test('a watermark is shown only once it is stored, and a topic whose claims have changed is looked at again', async () => {
  const topic = scene.topic(1, 2);
  topic.claims = [claim(2)];
  topic.folded = 7;
  scene.onSave = () => {
    topic.folded = 5;
    return [];
  };
  scene.cleaner.start();
  await scene.clock.advance(14_000);
  expect([scene.watermark(1), scene.saved]).toEqual([0, []]);
  await scene.clock.advance(1_000);
  expect([scene.saved.length, scene.watermark(1)]).toEqual([1, 0]);
  scene.onSave = (moved) => moved.map(({ facts }) => facts.topicId);
  await scene.clock.advance(20_000);
  expect([scene.watermark(1), scene.saved[1]?.[0]?.offsets]).toEqual([5, [5]]);
});

test('a watermark that is stored never goes back, although a reset owes records anew', async () => {
  const topic = scene.topic(1, 2);
  topic.claims = [claim(2)];
  topic.folded = 7;
  scene.cleaner.start();
  await scene.clock.advance(15_000);
  topic.folded = 0;
  scene.cleaner.changed(1);
  await scene.clock.advance(60_000);
  expect(scene.watermark(1)).toBe(7);
});

test('the watermark of a topic without subscriptions is the end of its log', async () => {
  scene.topic(1, 2);
  scene.cleaner.start();
  await scene.clock.advance(15_000);
  expect(scene.watermark(1)).toBe(20);
});

test('watermarks whose save failed are found again', async () => {
  scene.topic(1, 2);
  scene.onSave = () => {
    throw new Fault('DATABASE_UNAVAILABLE', 'down');
  };
  scene.cleaner.start();
  await scene.clock.advance(15_000);
  scene.onSave = (moved) => moved.map(({ facts }) => facts.topicId);
  await scene.clock.advance(35_000);
  expect(scene.watermark(1)).toBe(20);
});

test('those who ask what a topic stores share a look, and cannot have it looked at more often', async () => {
  const topic = scene.topic(1, 3);
  topic.claims = [claim(2)];
  const [one, other] = await Promise.all([scene.cleaner.look(1), scene.cleaner.look(1)]);
  expect(one).toBe(other);
  expect(one?.segments.map(({ segment, isCurrent }) => [segment, isCurrent])).toEqual([
    [1, false],
    [2, false],
    [3, true],
  ]);
  expect(one?.decision.kept.map(({ reason }) => reason.type)).toEqual(['RETENTION', 'SUBSCRIPTION', 'CURRENT']);
  await scene.cleaner.look(1);
  expect(scene.looks.length).toBe(1);
  await scene.clock.advance(restMs);
  await scene.cleaner.look(1);
  expect(scene.looks.length).toBe(2);
});

test('a topic that is gone stores nothing', async () => {
  scene.topic(1, 2);
  scene.scenes.delete(1);
  expect(await scene.cleaner.look(1)).toBeNull();
  expect(await scene.cleaner.look(7)).toBeNull();
});
