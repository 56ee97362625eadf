/** `HOSTILE=full` attacks at the sizes that once ended a broker. Otherwise attacks are short. */
export const isFull = process.env['HOSTILE'] === 'full';

export const sized = (short: number, full: number): number => (isFull ? full : short);

/** Whether each attack says what it cost: `HOSTILE` with any value. */
export const saysFigures = process.env['HOSTILE'] !== undefined;
