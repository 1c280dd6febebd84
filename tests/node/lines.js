'use strict';
// How a script here is told what to do, and tells what happened: one JSON object a line, on stdin and stdout.

const readline = require('readline');

/** Tells of an event. */
function tell(event, details) {
    process.stdout.write(JSON.stringify({ event, ...details }) + '\n');
}

/**
 * Does what each line says: `{"do": "send", …}` calls `commands.send` with the object.
 * The end of stdin is the end of the script: whoever started it has gone.
 */
function obey(commands) {
    const lines = readline.createInterface({ input: process.stdin });
    lines.on('line', (line) => {
        const command = JSON.parse(line);
        commands[command.do](command);
    });
    lines.on('close', () => process.exit(0));
    tell('ready', {});
}

module.exports = { tell, obey };
