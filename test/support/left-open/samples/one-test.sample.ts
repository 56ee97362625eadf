import { afterEach, onTestFinished, test } from 'vitest';

let timer: NodeJS.Timeout | undefined;

afterEach(() => {
  clearTimeout(timer);
});

test('leaves nothing', () => undefined);

test('ends its timer in afterEach', () => {
  timer = setTimeout(() => undefined, 60_000);
});

test('ends its timer when it has finished', () => {
  const mine = setTimeout(() => undefined, 60_000);
  onTestFinished(() => {
    clearTimeout(mine);
  });
});

test('leaves a timer', () => {
  setTimeout(() => undefined, 60_000);
});
