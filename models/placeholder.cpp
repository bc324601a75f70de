namespace tutti {}
