'use strict';
// A peer made of the original package, used as its README says. Every command is about the connection `on`, or the
// latest one.

const crypto = require('crypto');
const fs = require('fs');
const nossock = require('nossock');
const { tell, obey } = require('./lines');

const connections = [];
let messages = 0;

/** The connection a command is about. */
function chosen(command) {
    return connections[command.on === undefined ? connections.length - 1 : command.on];
}

/** Options as the package takes them; what names a file becomes its content. */
function options(command) {
    const opts = { host: '127.0.0.1', ...command.options };
    for (const key of ['cert', 'key', 'ca']) {
        if (opts[key] !== undefined) opts[key] = fs.readFileSync(opts[key]);
    }
    return opts;
}

/** How a body is told: JSON as it is, a buffer by its size and hash. */
function described(body) {
    // At once: the package gives a view of a buffer that it uses again.
    if (!(body instanceof Buffer)) return { json: body };
    return { size: body.length, sha256: crypto.createHash('sha256').update(body).digest('hex') };
}

/** Bytes that differ from their neighbours, the same as on the other side. */
function pattern(size) {
    const bytes = Buffer.alloc(size);
    for (let i = 0; i < size; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff;
    return bytes;
}

/** Tells what happens to a connection. */
function watch(socket) {
    const on = connections.push(socket) - 1;
    // All messages pass here first, under whatever name.
    socket.on('next', (message) => {
        messages += 1;
        tell('message', { on, name: message.name, kind: message.type, ...described(message.body) });
    });
    socket.on('end', () => tell('end', { on }));
    socket.on('close', () => tell('close', { on }));
    return on;
}

/** Tells of failures of the connection. Without it they, and any message named `error`, end the process. */
function hearErrors(socket, on) {
    socket.on('error', (error) => {
        tell('error', error instanceof Error ? { on, code: error.code, message: error.message } : { on, forged: error });
    });
}

/** What TLS says about the other side. */
function security(socket) {
    if (socket.socket.getProtocol === undefined) return {};
    const { subject } = socket.socket.getPeerCertificate() || {};
    return {
        version: socket.socket.getProtocol(),
        authorized: socket.socket.authorized,
        subject: subject === undefined ? null : subject.CN,
    };
}

/** An error as the callback of a request gets it. */
function failure(error) {
    return error instanceof Error ? { thrown: error.message } : error;
}

const answers = {
    echo: (command) => (body, answer) => answer(null, body),
    later: (command) => (body, answer) => setImmediate(() => answer(null, body)),
    error: (command) => (body, answer) => answer(command.error),
    Error: (command) => (body, answer) => answer(new Error(command.message)),
    never: (command) => () => {},
    whenTold: (command) => (body, answer) => { held.push(answer); tell('asked', { name: command.name }); },
};
const held = [];

obey({
    listen(command) {
        const server = nossock.createServer(command.type, options(command), (socket) => {
            const on = watch(socket);
            if (!command.deaf) hearErrors(socket, on);
            for (const request of command.requests || []) {
                socket.onReq(request.name, answers[request.how](request));
            }
            tell('connection', { on, ...security(socket) });
        });
        server.on('tlsClientError', (error) => tell('refused', { code: error.code, message: error.message }));
        server.listen(0, '127.0.0.1', () => tell('listening', { port: server.address().port }));
    },

    connect(command) {
        const socket = nossock.createClient(command.type, options(command), () => {
            tell('connected', { on, ...security(socket) });
        });
        const on = watch(socket);
        if (!command.deaf) hearErrors(socket, on);
        for (const request of command.requests || []) {
            socket.onReq(request.name, answers[request.how](request));
        }
    },

    send(command) {
        chosen(command).send(command.name, command.json);
    },

    sendBytes(command) {
        const bytes = pattern(command.size);
        chosen(command).send(command.name, bytes);
        tell('sent', described(bytes));
    },

    /** The numbers from 0, and what is to be done right after. */
    sendMany(command) {
        const socket = chosen(command);
        for (let n = 0; n < command.count; n++) socket.send(command.name, n);
        if (command.then !== undefined) socket[command.then]();
    },

    ask(command) {
        const begun = process.hrtime.bigint();
        const id = chosen(command).sendReq(command.name, command.json, (error, value) => {
            const ms = Number((process.hrtime.bigint() - begun) / 1000000n);
            tell('answer', { id, error: failure(error), value, ms });
        });
    },

    /** Asks with the numbers from 0, all at once, and tells how it went when all have been answered or given up. */
    askMany(command) {
        const socket = chosen(command);
        const result = { right: 0, wrong: [], hyphens: 0, failedHyphens: 0 };
        let open = command.count;
        for (let n = 0; n < command.count; n++) {
            const id = socket.sendReq(command.name, n, (error, value) => {
                const hyphen = id.includes('-');
                const right = error === null && value === n;
                result.hyphens += hyphen;
                result.failedHyphens += hyphen && !right;
                if (right) result.right += 1;
                else result.wrong.push({ id, error: failure(error), value });
                if (--open === 0) tell('answers', result);
            });
        }
    },

    /** Answers the oldest request that waits. */
    answer(command) {
        held.shift()(null, command.json);
    },

    /** Bytes past the package, to the socket below. */
    write(command) {
        chosen(command).socket.write(Buffer.from(command.hex, 'hex'));
    },

    count() {
        tell('count', { messages });
    },

    /** What the package takes over from the socket: end, destroy, pause, resume. */
    call(command) {
        chosen(command)[command.method]();
        tell('called', {});
    },
});
