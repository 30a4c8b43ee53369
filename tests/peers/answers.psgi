# An application for starman: it answers with the process that does.
my $app = sub { [200, ["Content-Length" => length($$)], ["$$"]] };
