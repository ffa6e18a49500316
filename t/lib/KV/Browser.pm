package KV::Browser;

# A page in headless Chromium, which is told what to do through two pipes (the
# DevTools protocol), and has no network but this machine's:
#
#     my $b = KV::Browser->new(width => 1280, height => 900);
#     $b->open("http://127.0.0.1:$s->{port}/dashboard");
#     $b->until('document.title === "ready - kv"', 10);
#     $b->key('Tab');
#     is($b->js('document.activeElement.id'), 'list');
#     $b->screenshot('page.png');
#
# The browser ends with the object.

use strict;
use warnings;

use Fcntl qw(F_DUPFD);
use File::Path ();
use File::Temp ();
use IO::Select ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use POSIX ();
use Time::HiRes qw(time);

use KV::Util;

my $JSON = JSON::PP->new->utf8->allow_nonref;


sub program {
    my ($program) = grep { -x } map { "$_/chromium" }
                    split /:/, $ENV{PATH} // '';
    return $program;
}


# Options: width, height of the window; dark, the colors of the desktop.

sub new {
    my ($class, %o) = @_;
    my $self = bless { width => 1280, height => 900, dark => 0, %o,
                       owner => $$, buffer => '', next => 0, said => [],
                       dir => File::Temp::tempdir('kvtestXXXXXX', TMPDIR => 1),
                     }, $class;

    $self->launch;

    my $target = $self->call('Target.createTarget', url => 'about:blank');
    $self->{session} = $self->call('Target.attachToTarget', flatten => \1,
                                   targetId => $target->{targetId})
                            ->{sessionId};
    $self->call("$_.enable") for qw(Page Runtime Log Network);
    $self->look(%o);

    return $self;
}


# It reads commands from descriptor 3 and writes to 4, each ended by a zero.

sub launch {
    my ($self) = @_;
    pipe(my $in, my $to) or die "pipe: $!";
    pipe(my $from, my $out) or die "pipe: $!";

    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        alarm(0);
        setpgrp(0, 0);
        my @fds = map { fcntl($_, F_DUPFD, 10) } $in, $out;
        POSIX::dup2($fds[0], 3);
        POSIX::dup2($fds[1], 4);
        POSIX::close($_) for @fds;
        CORE::open(STDIN, '<', '/dev/null');
        CORE::open(STDOUT, '>', "$self->{dir}/output");
        CORE::open(STDERR, '>&', \*STDOUT);
        $ENV{HOME} = $self->{dir};
        { exec program(), '--headless=new', '--remote-debugging-pipe',
               ($> == 0 ? '--no-sandbox' : ()), '--disable-gpu',
               '--disable-dev-shm-usage', '--no-first-run',
               '--no-default-browser-check', '--disable-extensions',
               '--disable-background-networking', '--disable-sync',
               '--disable-component-update', '--no-proxy-server',
               '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
               "--user-data-dir=$self->{dir}/profile",
               "--window-size=$self->{width},$self->{height}" }
        POSIX::_exit(127);
    }

    setpgrp($pid, $pid);
    @$self{qw(pid to from)} = ($pid, $to, $from);
    close $in;
    close $out;
    $to->autoflush(1);
}


# ---- the protocol


# A command and what comes of it; dies if that is an error.

sub call {
    my ($self, $method, %params) = @_;
    my $id = ++$self->{next};
    my %command = (id => $id, method => $method, params => \%params);

    $command{sessionId} = $self->{session}
        if $self->{session} && $method !~ /^(?:Target|Browser)\./;
    print {$self->{to}} $JSON->encode(\%command), "\0"
        or die "the browser is gone\n";

    my $answer = $self->receive(sub { ($_[0]{id} // 0) == $id }, 60);

    die "$method: $answer->{error}{message}\n" if $answer->{error};
    return $answer->{result};
}


# The next message that is wanted. Others are remembered if they tell of
# something wrong.

sub receive {
    my ($self, $wanted, $seconds) = @_;
    my $end = time + $seconds * slowness();

    while (1) {
        while ($self->{buffer} =~ s/^([^\0]*)\0//) {
            my $message = $JSON->decode($1);
            $self->note($message);
            return $message if $wanted->($message);
        }

        die "the browser says nothing\n"
            if !IO::Select->new($self->{from})->can_read($end - time);
        sysread($self->{from}, $self->{buffer}, 1 << 20, length $self->{buffer})
            or die "the browser is gone: " . read_file("$self->{dir}/output");
    }
}


sub note {
    my ($self, $message) = @_;
    my $what = $message->{method} // return;
    my $params = $message->{params};

    push @{$self->{said}}, $params->{entry}{text}
        if $what eq 'Log.entryAdded';
    push @{$self->{said}}, $params->{exceptionDetails}{exception}{description}
                           // $params->{exceptionDetails}{text}
        if $what eq 'Runtime.exceptionThrown';
    push @{$self->{said}}, join ' ', map { $_->{value} // $_->{description} }
                                     @{$params->{args}}
        if $what eq 'Runtime.consoleAPICalled';
    push @{$self->{asked}}, $params->{request}
        if $what eq 'Network.requestWillBeSent';
}


# What the page complained of since this was asked last: errors, refusals of
# its policy, what it wrote to the console; and what it has asked for.

sub said { return splice @{$_[0]{said}} }
sub asked { return splice @{$_[0]{asked} || []} }


# ---- what a person does


sub open {
    my ($self, $url) = @_;
    $self->call('Page.navigate', url => $url);
    $self->receive(sub { ($_[0]{method} // '') eq 'Page.loadEventFired' }, 30);
}


# Another window: width, height, dark.

sub look {
    my ($self, %o) = @_;
    %$self = (%$self, %o);
    $self->call('Emulation.setDeviceMetricsOverride', deviceScaleFactor => 1,
                mobile => \($self->{width} < 600 ? 1 : 0),
                map { $_ => 0 + $self->{$_} } qw(width height));
    $self->call('Emulation.setEmulatedMedia', features => [
        { name => 'prefers-color-scheme',
          value => $self->{dark} ? 'dark' : 'light' } ]);
}


# The value of an expression, also of one that is there later.

sub js {
    my ($self, $code) = @_;
    my $r = $self->call('Runtime.evaluate', expression => $code,
                        awaitPromise => \1, returnByValue => \1);
    die $r->{exceptionDetails}{exception}{description}
        // $r->{exceptionDetails}{text}, "\n" if $r->{exceptionDetails};
    return $r->{result}{value};
}


# Waits until an expression is true: its value, or nothing.

sub until {
    my ($self, $code, $seconds) = @_;
    return wait_for(sub { $self->js($code) }, $seconds, 0.05);
}


# A key by its name, with Shift perhaps; and text.

my %CODES = (Tab => 9, Enter => 13, End => 35, Home => 36, ArrowUp => 38,
             ArrowDown => 40);

sub key {
    my ($self, $key, $shift) = @_;
    my %key = (key => $key, code => $key, windowsVirtualKeyCode => $CODES{$key},
               modifiers => $shift ? 8 : 0);
    $key{text} = "\r" if $key eq 'Enter';
    $self->call('Input.dispatchKeyEvent', type => 'keyDown', %key);
    delete $key{text};
    $self->call('Input.dispatchKeyEvent', type => 'keyUp', %key);
}

sub type {
    my ($self, $text) = @_;
    $self->call('Input.insertText', text => $text);
}


# What the window shows.

sub screenshot {
    my ($self, $file) = @_;
    my $png = $self->call('Page.captureScreenshot', format => 'png');
    write_file($file, decode_base64($png->{data}));
}


# Stops all of it, so that it neither reads nor asks, until it is to go on.

sub stop { kill('STOP', -$_[0]{pid}) }
sub go_on { kill('CONT', -$_[0]{pid}) }


sub DESTROY {
    my ($self) = @_;
    return if $$ != $self->{owner} || !$self->{pid};
    local ($?, $!, $@);

    kill('KILL', -$self->{pid});
    waitpid($self->{pid}, 0);
    File::Path::remove_tree($self->{dir});
}


1;
