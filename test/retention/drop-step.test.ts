import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nextStep, type DroppedTable, type DropPressure, type DropStep } from '../../src/retention/drop-step.ts';

const attached: DroppedTable = {
  exists: true,
  attached: 'YES',
  tableLockers: 0,
  parentLockers: 0,
  detaching: null,
};
const relaxed: DropPressure = { wantsSegment: false, wantsSession: false, missedMs: 0 };
const hurried: DropPressure = { wantsSegment: true, wantsSession: true, missedMs: Infinity };

test.each<[string, Partial<DroppedTable>, Partial<DropPressure>, DropStep['type']]>([
  ['a table that is gone needs only its record', { exists: false }, {}, 'DONE'],
  ['an attached table is detached', {}, {}, 'DETACH'],
  ['readers of the parent do not delay the begin of a detach', { parentLockers: 3 }, {}, 'DETACH'],
  ['a reader of the table itself delays the detach', { tableLockers: 1 }, hurried, 'WAIT'],
  ['a detached table is dropped', { attached: 'NO' }, {}, 'DROP'],
  ['a pending table that nobody uses is dropped', { attached: 'PENDING' }, {}, 'DROP'],
  ['a pending table waits for readers of its parent', { attached: 'PENDING', parentLockers: 1 }, {}, 'WAIT'],
  ['a pending table waits for its readers', { attached: 'PENDING', tableLockers: 1 }, { missedMs: 299_999 }, 'WAIT'],
  [
    'a pending table that never comes free is finished',
    { attached: 'PENDING', parentLockers: 1 },
    { missedMs: 300_000 },
    'FINALIZE',
  ],
])('%s', (_, table, pressure, type) => {
  expect(nextStep({ ...attached, ...table }, { ...relaxed, ...pressure }).type).toBe(type);
});

test.each<[string, DroppedTable['detaching'], Partial<DropPressure>, DropStep['type']]>([
  ['a detach that works is left alone', { waitsFor: null, waitedMs: Infinity }, hurried, 'WAIT'],
  ['a detach that waits for readers may wait for ever', { waitsFor: 'PARENT', waitedMs: Infinity }, {}, 'WAIT'],
  [
    'a detach that blocks the next segment ends after 10 s',
    { waitsFor: 'TABLE', waitedMs: 10_000 },
    { wantsSegment: true },
    'CANCEL',
  ],
  ['before that it goes on', { waitsFor: 'TABLE', waitedMs: 9_999 }, { wantsSegment: true }, 'WAIT'],
  [
    'a detach that waits for readers of the parent blocks no segment',
    { waitsFor: 'PARENT', waitedMs: 59_999 },
    hurried,
    'WAIT',
  ],
  [
    'a topic that waits for a session gets that of a detach that is blocked for 60 s',
    { waitsFor: 'PARENT', waitedMs: 60_000 },
    { wantsSession: true },
    'CANCEL',
  ],
])('%s', (_, detaching, pressure, type) => {
  expect(nextStep({ ...attached, detaching }, { ...relaxed, ...pressure }).type).toBe(type);
});

/** A table in a database where sessions come and go, and steps may fail half-way. */
class CatalogScene {
  table: DroppedTable = attached;
  missedMs = 0;

  /** Carries the step out, or lets it fail as the database does when somebody holds a lock. */
  carryOut(step: DropStep, isInterrupted: boolean): void {
    const { attached: before, tableLockers, parentLockers } = this.table;
    const free = tableLockers + parentLockers === 0;
    switch (step.type) {
      case 'DETACH':
        expect(before).toBe('YES');
        if (isInterrupted) this.table = { ...this.table, attached: 'PENDING' };
        else if (free) this.table = { ...this.table, attached: 'NO' };
        else this.table = { ...this.table, detaching: { waitsFor: 'PARENT', waitedMs: 0 } };
        break;
      case 'DROP':
        // A drop of an attached table would block appends behind its readers.
        expect(before).not.toBe('YES');
        if (free && !isInterrupted) this.table = { ...this.table, exists: false };
        break;
      case 'FINALIZE':
        expect(before).toBe('PENDING');
        if (free && !isInterrupted) this.table = { ...this.table, attached: 'NO' };
        break;
      case 'CANCEL':
        this.table = { ...this.table, attached: 'PENDING', detaching: null };
        break;
      case 'WAIT':
      case 'DONE':
    }
  }

  /** Sessions go, and a detach that has waited for them ends. */
  quiet(): void {
    const { attached: before, detaching } = this.table;
    const after = detaching === null ? before : 'NO';
    this.table = { ...this.table, tableLockers: 0, parentLockers: 0, detaching: null, attached: after };
  }
}

test('whoever comes and goes, the table is gone at most four looks after the last one has left', () => {
  const happening = fc.record({
    tableLockers: fc.nat(1),
    parentLockers: fc.nat(1),
    isInterrupted: fc.boolean(),
    wantsSegment: fc.boolean(),
    wantsSession: fc.boolean(),
    passedMs: fc.nat(120_000),
  });
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 20 }), (happenings) => {
      const scene = new CatalogScene();
      for (const { tableLockers, parentLockers, isInterrupted, passedMs, ...wants } of happenings) {
        if (!scene.table.exists) break;
        const { detaching } = scene.table;
        const waiting = detaching === null ? null : { ...detaching, waitedMs: detaching.waitedMs + passedMs };
        scene.table = { ...scene.table, tableLockers, parentLockers, detaching: waiting };
        scene.missedMs = scene.table.attached === 'PENDING' ? scene.missedMs + passedMs : 0;
        scene.carryOut(nextStep(scene.table, { ...wants, missedMs: scene.missedMs }), isInterrupted);
      }
      if (scene.table.exists) scene.quiet();
      let looks = 0;
      for (let step = nextStep(scene.table, relaxed); step.type !== 'DONE'; step = nextStep(scene.table, relaxed)) {
        scene.carryOut(step, false);
        expect(++looks).toBeLessThanOrEqual(4);
      }
      expect(scene.table.exists).toBe(false);
    }),
    { numRuns: 1_000 },
  );
});
